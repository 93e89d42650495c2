"""The programs that ask engines: their protocol, their environments, and one engine for real."""

from __future__ import annotations

import io
import json
import math
import re
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from omnivault.conformance.adapters import __main__ as whole
from omnivault.conformance.adapters import environments, observe
from omnivault.conformance.adapters.environments import adapters, command, requirements
from omnivault.conformance.adapters.observe import ROWS, grid
from omnivault.conformance.adapters.run_transformers import Transformers
from omnivault.conformance.adapters.serving import converse, respond
from omnivault.conformance.programs import Program, ProtocolError
from omnivault.conformance.results import read_results

FOLDER = Path(environments.__file__).parent


class Fake:
    """Keeps what it is told to; notes what it was asked."""

    name, version, dials = "fake", "1.0", ("temperature", "top_k")

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def probs(self, logits: list[float], settings: dict[str, Any]) -> list[float]:
        self.asked.append((logits, settings))
        match settings.get("temperature", 1):
            case 0:
                raise ValueError("temperature 0? no.")
            case -1:
                raise RuntimeError
            case -2:
                return [math.nan, 1.0]
        return [1.0] + [0.0] * (len(logits) - 1)

    def draw(self, logits: list[float], settings: dict[str, Any], n: int, seed: int) -> list[int]:
        self.asked.append((logits, settings, n, seed))
        return [seed] * n


def asking(do: str, **rest: Any) -> str:
    return json.dumps({"do": do, "logits": [0, "-inf"], "settings": {}} | rest)


class TestProtocol:
    def test_hello(self) -> None:
        expected = {"name": "fake", "version": "1.0", "dials": ["temperature", "top_k"]}
        assert respond(Fake(), '{"do": "hello"}') == expected | (
            {"can": ["probs", "draw"], "seeded": True}
        )

    def test_an_engine_without_a_seed_says_so(self) -> None:
        fake = Fake()
        fake.seeded = False  # type: ignore[attr-defined]
        assert respond(fake, '{"do": "hello"}')["seeded"] is False

    def test_logits_arrive_as_numbers(self) -> None:
        fake = Fake()
        line = asking("probs", logits=[1, "-inf", "inf"], settings={"top_k": 2})
        assert respond(fake, line) == {"probs": [1.0, 0.0, 0.0]}
        assert fake.asked == [([1.0, -math.inf, math.inf], {"top_k": 2})]

    def test_draws(self) -> None:
        fake = Fake()
        assert respond(fake, asking("draw", n=3, seed=1)) == {"tokens": [1, 1, 1]}
        assert fake.asked == [([0.0, -math.inf], {}, 3, 1)]

    def test_a_refusal_is_in_the_words_of_the_engine(self) -> None:
        line = asking("probs", settings={"temperature": 0})
        assert respond(Fake(), line) == {"refused": "temperature 0? no."}

    @pytest.mark.parametrize(
        ("line", "error"),
        [
            ("{", "a request must be one JSON object on a line: Expecting property name"),
            ("[]", "no request of the protocol: []"),
            ('{"do": "sing"}', 'no request of the protocol: {"do": "sing"}'),
            (asking("probs", logits=[]), "no request of the protocol: "),
            (asking("probs", logits=0), "no request of the protocol: "),
            (asking("probs", settings=0), "no request of the protocol: "),
            (asking("sing"), "fake cannot sing; it can: probs, draw"),
            (asking("kept"), "fake cannot kept; it can: probs, draw"),
            (asking("draw"), "a request for draws needs an integer n and an integer seed"),
            (asking("draw", n=1), "a request for draws needs an integer n and an integer seed"),
            (asking("draw", n=1.5, seed=0), "a request for draws needs an integer n"),
            (
                asking("probs", settings={"min_p": 0.1}),
                "fake has no min_p; its dials are: temperature, top_k",
            ),
            (asking("probs", settings={"temperature": -1}), "RuntimeError"),
            (
                asking("probs", settings={"temperature": -2}),
                "fake gives probabilities that are not finite: [nan, 1.0]",
            ),
            (
                asking("probs", logits=["zero"]),
                'a logit must be a number, "inf" or "-inf", got "zero"',
            ),
        ],
    )
    def test_errors(self, line: str, error: str) -> None:
        answer = respond(Fake(), line)
        assert list(answer) == ["error"]
        assert answer["error"].startswith(error)

    def test_a_conversation_goes_on_after_an_error(self) -> None:
        answers = io.StringIO()
        converse(Fake(), ["{\n", asking("probs") + "\n"], answers)
        first, second = map(json.loads, answers.getvalue().splitlines())
        assert "error" in first
        assert second == {"probs": [1.0, 0.0]}


NOISY = """
import os
import sys

sys.path.insert(0, {folder!r})


class Noisy:
    name, version, dials = "noisy", "2", ("top_k",)

    def __init__(self):
        print("loading", flush=True)

    def {method}(self, logits, settings, *draws):
        os.write(1, b"working\\n")
        if settings.get("top_k") == 1:
            raise ValueError("one is too few")
        if settings.get("top_k") == 2 and {fails}:
            os._exit(3)
        best = logits.index(max(logits))
        if draws:
            return [best] * draws[0]
        return [float(i == best) for i in range(len(logits))]


from serving import serve

serve(Noisy)
"""


def program(folder: Path, method: str, fails: bool = False) -> list[str]:
    path = folder / f"noisy_{method}.py"
    path.write_text(NOISY.format(folder=str(FOLDER), method=method, fails=fails))
    return [sys.executable, str(path)]


class TestPrograms:
    def test_what_the_engine_prints_stands_between_no_answers(self, tmp_path: Path) -> None:
        with Program(program(tmp_path, "probs")) as asked:
            asked.hello()
            assert asked.name == "noisy"
            assert asked.probs([0, 1], {}) == [0.0, 1.0]

    def test_errors_and_ends_are_raised(self, tmp_path: Path) -> None:
        with Program(program(tmp_path, "probs", fails=True)) as asked:
            asked.hello()
            with pytest.raises(ProtocolError, match="noisy has no top_p"):
                asked.probs([0, 1], {"top_p": 0.5})
            with pytest.raises(
                ProtocolError, match=r"the program ended without an answer .*code 3"
            ):
                asked.probs([0, 1], {"top_k": 2})

    def test_one_that_says_nothing_is_ended(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(observe, "PATIENCE", 0.5)
        hello = {"name": "silent", "version": "1", "dials": [], "can": ["probs"]}
        path = tmp_path / "silent.py"
        path.write_text(
            f"input(); print({json.dumps(json.dumps(hello))}, flush=True); input(); input()"
        )
        with (
            Program([sys.executable, str(path)]) as silent,
            pytest.raises(ProtocolError, match="the program ended without an answer"),
        ):
            observe.observe(silent)

    @pytest.mark.parametrize("method", ["probs", "draw"])
    def test_observations(self, method: str, tmp_path: Path) -> None:
        with Program(program(tmp_path, method)) as asked:
            observed = observe.observe(asked)
        best = {row: logits.index(max(logits)) for row, logits in ROWS.items()}
        seen = observed["observations"]
        assert [(one["row"], one["settings"]) for one in seen] == list(grid(["top_k"]))
        for one in seen:
            if one["settings"] == {"top_k": 1}:
                assert one["refused"] == "one is too few"
                continue
            token, size = best[one["row"]], len(ROWS[one["row"]])
            assert one["kept"] == [token]
            if method == "probs":
                assert one["probs"] == [float(i == token) for i in range(size)]
            else:
                assert one["draws"] == (4000 if one["row"] not in ("65", "1000") else 40_000)
                assert one["counts"] == [one["draws"] * (i == token) for i in range(size)]
        observe.save(observed, tmp_path)
        assert json.loads((tmp_path / "noisy.json").read_text()) == observed
        assert observed["rows"]["masked"][1] == "-inf"

    def test_one_engine_fails_and_the_rest_is_asked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "dying").mkdir()
        dies = program(tmp_path / "dying", "probs", fails=True)
        works = program(tmp_path, "probs")

        def commands(adapter: Path, folder: Path) -> list[str]:
            match adapter.name:
                case "missing":
                    raise RuntimeError("ERROR: no\n such package")
                case "dies":
                    return dies
            return works

        found = {name: Path(name) for name in ("missing", "dies", "works", "vllm")}
        monkeypatch.setattr(whole, "adapters", lambda: found)
        monkeypatch.setattr(whole, "command", commands)
        into = ["--into", str(tmp_path / "saved"), "--results", str(tmp_path / "results.json")]
        assert whole.main(into) == 1
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 3  # the largest is asked only when it is named
        assert lines[0] == "missing: not asked: ERROR: no such package"
        assert lines[1].startswith("dies: not asked: the program ended without an answer")
        asked = len(list(grid(["top_k"])))
        assert lines[2].startswith(f"noisy 2: {asked} observations; cases: ")
        assert [path.name for path in (tmp_path / "saved").iterdir()] == ["noisy.json"]
        result = read_results(tmp_path / "results.json")["noisy"]
        assert result["version"] == "2"
        assert "two-tokens (probs)" in result["failed"]  # it always takes the best
        assert result["passed"] > 0
        with pytest.raises(SystemExit):
            whole.main(["no-engine"])
        assert "no adapter no-engine; there are: missing, dies" in capsys.readouterr().err


class TestRows:
    def test_they_are_float32(self) -> None:
        for logits in ROWS.values():
            rounded = torch.tensor(logits, dtype=torch.float32)
            again = torch.tensor([float(f"{z:.9g}") for z in rounded.tolist()])
            assert torch.equal(rounded, again.float())
            assert all(float(f"{z:.9g}") == z for z in logits)

    @pytest.mark.parametrize("row", ["12", "65", "1000"])
    def test_no_two_logits_are_equal(self, row: str) -> None:
        assert len(set(ROWS[row])) == len(ROWS[row]) == int(row)

    def test_engines_are_asked_what_they_have(self) -> None:
        assert {row for row, _ in grid([])} == set(ROWS) - {"65", "1000"}
        for dials in (["temperature"], ["top_p", "top_k"], ["min_p", "temperature"]):
            assert {dial for _, settings in grid(dials) for dial in settings} == set(dials)


def wheel(folder: Path, name: str, version: str) -> None:
    """Write a package that holds one module of its name."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        file.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


class TestEnvironments:
    def test_every_requirement_is_pinned(self) -> None:
        assert len(adapters()) >= 7
        for path in adapters().values():
            for requirement in requirements(path):
                assert re.fullmatch(r"[\w\[\]-]+==[\w.]+|@?[\w/-]+@[\d.]+", requirement), path.name

    def test_metadata_must_be_there(self, tmp_path: Path) -> None:
        path = tmp_path / "run_bare.py"
        path.write_text('"""Nothing."""\n')
        with pytest.raises(ValueError, match=r"run_bare\.py has no script metadata; write it"):
            requirements(path)

    def test_the_running_python_is_taken_where_it_will_do(self, tmp_path: Path) -> None:
        import transformers

        path = tmp_path / "run_here.py"
        pin = f"transformers=={transformers.__version__}"
        path.write_text(f'# /// script\n# dependencies = ["{pin}"]\n# ///\n')
        assert command(path, tmp_path / "none") == [sys.executable, str(path)]
        assert not (tmp_path / "none").exists()

    def test_packages_are_installed_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
        monkeypatch.delenv("PYTHONPATH", raising=False)
        wheel(tmp_path, "pretended", "1.5")
        path = tmp_path / "run_pretended.py"
        text = (
            '# /// script\n# dependencies = ["pretended=={}"]\n# ///\n'
            f"import sys\nsys.path.insert(0, {str(FOLDER)!r})\n"
            "import pretended\nfrom serving import serve\n"
            "class It:\n    name, version, dials = 'it', pretended.VERSION, ()\n"
            "    def draw(self, logits, settings, n, seed):\n        return [0] * n\n"
            "serve(It)\n"
        )
        path.write_text(text.format("1.5"))
        arguments = command(path, tmp_path / "made")
        with Program(arguments) as asked:
            asked.hello()
            assert asked.version == "1.5"
        made = Path(arguments[0]).lstat().st_ctime_ns
        assert command(path, tmp_path / "made") == arguments
        assert Path(arguments[0]).lstat().st_ctime_ns == made

        path.write_text(text.format("1.6"))
        with pytest.raises(RuntimeError, match=r"ERROR: .*pretended==1\.6"):
            command(path, tmp_path / "made")

    def test_packages_for_node(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        package = tmp_path / "pretended"
        package.mkdir()
        (package / "package.json").write_text('{"name": "pretended", "version": "1.5.0"}')
        (package / "index.js").write_text(
            'exports.hello = {name: "it", version: "1.5.0", dials: [], can: ["draw"]};'
        )
        path = tmp_path / "run_node.mjs"
        path.write_text(
            f"// npm: {package}\n"
            'import { createRequire } from "node:module";\n'
            'import { createInterface } from "node:readline";\n'
            'const { hello } = createRequire(process.argv[2] + "/")("pretended");\n'
            "for await (const line of createInterface({ input: process.stdin }))\n"
            "    console.log(JSON.stringify(hello));\n"
        )
        monkeypatch.setenv("npm_config_offline", "true")
        with Program(command(path, tmp_path / "made")) as asked:
            asked.hello()
            assert (asked.name, asked.version) == ("it", "1.5.0")

        path.write_text("// npm: pretended-elsewhere@1.0.0\n")
        with pytest.raises(RuntimeError, match=r"npm error .*pretended-elsewhere"):
            command(path, tmp_path / "made")
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(RuntimeError, match="npm is not installed"):
            command(path, tmp_path / "made")


A = ROWS["A"]


class TestTransformers:
    """Of the kept sets, those are known by its definition: all its ties with the k-th, and one more
    where the sum of the discarded tail is compared with 1 - p."""

    engine = Transformers()

    @pytest.mark.parametrize(
        ("settings", "kept"),
        [
            ({}, [0, 1, 2, 3, 4]),
            ({"top_k": 4}, [0, 1, 2, 3, 4]),
            ({"top_k": 2}, [0, 1]),
            ({"top_p": 0.6}, [0, 1]),
            ({"top_p": 0.9}, [0, 1, 2, 4]),
            ({"min_p": 0.2}, [0, 1, 2]),
            ({"temperature": 2.0, "top_p": 0.65}, [0, 1, 2]),
            ({"typical_p": 0.2}, [1]),
        ],
    )
    def test_probabilities(self, settings: dict[str, float], kept: list[int]) -> None:
        probs = respond(self.engine, asking("probs", logits=A, settings=settings))["probs"]
        logits = torch.tensor(A, dtype=torch.float64) / settings.get("temperature", 1.0)
        left = torch.full_like(logits, -math.inf)
        left[kept] = logits[kept]
        # Two roundings to float32 of logits of at most 3, and a softmax of three more.
        bound = (2 * 3 + 3) * torch.finfo(torch.float32).eps
        torch.testing.assert_close(
            torch.tensor(probs, dtype=torch.float64), left.softmax(-1), rtol=bound, atol=0
        )

    def test_refusals(self) -> None:
        line = asking("probs", logits=A, settings={"temperature": 0.0})
        assert "strictly positive float" in respond(self.engine, line)["refused"]
        line = asking("draw", logits=A, settings={"min_p": 2.0}, n=1, seed=0)
        assert "min_p" in respond(self.engine, line)["refused"]

    def test_draws(self) -> None:
        line = asking("draw", logits=A, settings={"top_p": 0.6}, n=4000, seed=7)
        state = torch.random.get_rng_state()
        tokens = respond(self.engine, line)["tokens"]
        assert torch.equal(torch.random.get_rng_state(), state)
        assert respond(self.engine, line)["tokens"] == tokens
        counts = Counter(tokens)
        assert set(counts) == {0, 1}
        # Binomial with p = 2/3; six standard deviations: a false alarm once in 10^8 seeds.
        assert abs(counts[0] - 4000 * 2 / 3) < 6 * math.sqrt(4000 * 2 / 9)
        other = json.loads(line) | {"seed": 8}
        assert respond(self.engine, json.dumps(other))["tokens"] != tokens
