# Two commands matter: `make book` and `make test`. Both set up everything they need by themselves.

# The Python (3.11 or newer) that makes the virtual environment.
PYTHON ?= python3
# Another index for the torch wheel, for example the CPU-only one that PyTorch's installation page
# names: make book TORCH_INDEX=...  (on Linux the plain index gives a CUDA build of several GB).
TORCH_INDEX ?=

# PyTorch's threads spin while they wait for one another. Beside any other work on the machine, that
# made a build many times slower. Waiting passively costs a build nothing that could be measured; it
# does cost operations of a tenth of a millisecond, so `make bench` does without.
export OMP_WAIT_POLICY := PASSIVE

VENV := .venv
BIN := $(VENV)/bin
CREATED := $(VENV)/.created
INSTALLED := $(VENV)/.installed
# npm empties node_modules before it fills it, so what is in there goes with it.
KATEX := node_modules/.book
CHECKERS := node_modules/.checkers
MODEL := $(VENV)/.model
BUILT := _build/html/.built
LAB_SETTINGS := $(VENV)/share/jupyter/lab/settings
SOURCES := _config.yml _toc.yml $(shell find book omnivault website tests -type f \
	-not -name '*.pyc' -not -name '*.ipynb' -not -path '*/.*') $(wildcard _build/checks.json)

# Programs of the build and of the tests.
TOOL := $(BIN)/python -m
NPM := PATH="$(CURDIR)/$(BIN):$$PATH" npm

.DEFAULT_GOAL := help
.PHONY: help setup book chapter notebooks pdf test portable bench mutants lint scores serve lab \
	engines experiments requirements clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(INSTALLED) $(KATEX) $(MODEL) ## make .venv, install what book and test need (they call it)

# Killed half-way, either of these starts over: .created and .installed come last, and install.py
# leaves .unfinished where packages were being unpacked.
$(CREATED):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    "Python 3.11 or newer is needed, this is " + sys.version + "; try: make PYTHON=python3.11")'
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

ifneq ($(wildcard $(VENV)/.unfinished),)
.PHONY: $(CREATED)
endif

INSTALL = $(TOOL) website.build.install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

$(INSTALLED): $(CREATED) requirements.txt requirements-data.txt pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --constraint requirements.txt packaging rich
	@$(INSTALL) -r requirements.txt
	@$(INSTALL) --no-deps -r requirements-data.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(KATEX): package-lock.json | $(INSTALLED)
	@echo "Installing KaTeX"
	@$(NPM) ci --silent --omit=dev
	@touch $@

# What only the tests need of npm: axe-core and Lighthouse.
$(CHECKERS): package-lock.json | $(INSTALLED)
	@echo "Installing KaTeX, axe-core and Lighthouse"
	@$(NPM) ci --silent
	@touch $(KATEX) $@

# Converted here, where a terminal can show how far it is; a chapter that misses it converts it too.
$(MODEL): $(INSTALLED)
	@$(BIN)/python -m omnivault.model.language_model
	@touch $@

book: $(BUILT) ## build the book; warnings and failing cells are errors
	@echo "The book is at $(CURDIR)/_build/html/index.html"

# Executed cells stay cached until their text, or what they import, changes (website/build/run_chapters.py).
$(BUILT): $(INSTALLED) $(KATEX) $(MODEL) $(SOURCES)
	@mkdir -p _build && touch _build/.started
	@$(TOOL) website.build.build_book
	@mv _build/.started $@  # dated before the build: an edit made meanwhile is not lost

chapter: $(INSTALLED) ## run one chapter alone, such as make chapter PAGE=softmax/numerics
	@$(TOOL) website.build.run_chapters $(PAGE)

# First the checks of the statements, and the faults that these have to catch: the book shows their
# report. Then the book, and the tests of everything else, which look at that book. What has passed
# and depends on nothing that has changed is left out (tests/support/unchanged.py).
TWO_AT_A_TIME := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --affected -n 2
STATEMENTS := $(wildcard tests/chapters/*/)

test: $(CHECKERS) $(MODEL) lint ## check the statements, build the book, run every other test
	$(TWO_AT_A_TIME) --dist loadfile --report $(STATEMENTS)
	$(TWO_AT_A_TIME) --report -m fault tests/mutation
	@$(MAKE) --no-print-directory book
	$(TWO_AT_A_TIME) --dist loadfile --no-loadscope-reorder -m "not (fault or alone)" \
	    $(patsubst %,--ignore=%,$(STATEMENTS))
	$(BIN)/python -m pytest --affected -m alone $(shell grep -rl --include=*.py mark.alone tests)

portable: $(BUILT) ## run chapters and tests as on other processors; print what differs (long)
	$(TOOL) tests.support.portable $(SETTINGS)

# Threads wait as PyTorch has them wait by itself: so do those of whoever calls `sample`. The npm of
# the environment brings llama.cpp's library.
bench: $(INSTALLED) ## time sample beside Transformers, llama.cpp and others (three minutes)
	env -u OMP_WAIT_POLICY PATH="$(CURDIR)/$(BIN):$$PATH" \
	    $(BIN)/python -m omnivault.experiments.benchmark _build/benchmark.json

mutants: $(INSTALLED) ## make small faults in the package and count those that tests notice (long)
	rm -rf mutants
	OMP_NUM_THREADS=1 $(BIN)/mutmut run
	$(TOOL) tests.mutation.mutation_scores

lint: $(INSTALLED) ## style, types and workflows
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy --num-workers auto
	$(BIN)/zizmor --offline --quiet .github/workflows

scores: $(BUILT) $(CHECKERS) ## print Lighthouse's scores of every page, medians of three runs
	$(TOOL) tests.support.lighthouse

serve: $(BUILT) ## serve the built book on localhost:8000
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html 8000

notebooks: $(BUILT) ## the chapters as executed notebooks, for any notebook program
	@echo "The notebooks are in $(CURDIR)/_build/html/notebooks"

PDF := _build/from-logits-to-tokens.pdf

pdf: $(PDF) ## the book as one PDF file; a Chromium that is installed prints it
	@echo "The PDF is at $(CURDIR)/$(PDF)"

$(PDF): $(BUILT) website/pdf.py
	$(TOOL) website.pdf _build/html $@

# In a folder of the reader's own: an edit there never touches the sources of the book.
lab: $(BUILT) ## open copies of the notebooks in JupyterLab; they are yours to change, in lab/
	$(TOOL) website.notebooks.lab _build/html/notebooks lab
	@mkdir -p $(LAB_SETTINGS)
	@echo '{"@jupyterlab/docmanager-extension:plugin": {"defaultViewers":' \
	    '{"markdown": "Jupytext Notebook", "myst": "Jupytext Notebook"}}}' \
	    > $(LAB_SETTINGS)/overrides.json
	$(BIN)/jupyter-lab --notebook-dir=lab

engines: $(INSTALLED) ## ask real engines and save what they answer (a gigabyte of downloads)
	$(BIN)/python -m omnivault.conformance.adapters

experiments: $(INSTALLED) ## write the texts of the decoding experiment anew (about half an hour)
	$(BIN)/python -m omnivault.experiments.degeneration

# What only the CUDA build of torch asks for, and pins by itself: naming it here would install it
# beside a CPU build too.
CUDA := triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas \
	nvidia-cuda-cupti nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft \
	nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 \
	nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx

requirements: $(INSTALLED) ## resolve requirements.in into requirements.txt again
	$(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.11 \
	    --custom-compile-command "make requirements" \
	    $(foreach p,$(CUDA),--no-emit-package $(p)) requirements.in -o requirements.txt

clean: ## remove what builds and tests made; keep .venv
	rm -rf _build mutants .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -not -path './node_modules/*' \
	    -prune -exec rm -rf {} +
