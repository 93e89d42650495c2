"""How each numbered statement is verified: a line below it, and the ledger of them all.

Both are made from the marks of the tests and the report of their last run (marks.py). Without a
report of these very sources they say that the checks were not run.

``{verification-ledger}`` becomes a table for every page with statements, ``{mutation-scores}`` one
of the faults that a tool made in the package. The totals are added to two paragraphs that make
sense without them: in a notebook nothing is missing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from sphinx_proof.nodes import proof_node

from website import ROOT
from website.ledger.marks import (
    PEERS,
    PLACES,
    Check,
    Evidence,
    Fault,
    Report,
    equivalents,
    evidence,
    faults,
    read_report,
    saved_scores,
)
from website.lists.statement_index import doctree_of, numbered, pages, title_of

LEDGER = "book/appendix/verification"
TOTALS = {"ledger-totals", "verification-totals"}
CLAIM_NOTHING = ("example", "remark")

Cells = list[list[nodes.Node]]


@cache
def report() -> Report:
    return read_report(ROOT)


@cache
def gathered() -> dict[str, Evidence]:
    return evidence(ROOT, report())


def plural(n: int, one: str) -> str:
    return f"{n:,} {one}" if n == 1 else f"{n:,} {one}s"


def joined(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def link(app: Sphinx, page: str, target: str, anchor: str, text: str) -> nodes.Node:
    """Link to another page of the site; formats that have none get the text alone."""
    if app.builder.format != "html":
        return nodes.Text(text)
    uri = app.builder.get_relative_uri(page, target) + (f"#{anchor}" if anchor else "")
    return nodes.reference("", text, internal=True, refuri=uri)


# How a statement is checked -----------------------------------------------------------------------


def methods(found: Evidence) -> Iterator[tuple[str, Check]]:
    """Each way in which a statement is checked, in words, and the first test that goes it."""
    for method, words in {"symbolic": "symbolic algebra", "exact": "exact arithmetic"}.items():
        if by := found.by(method):
            yield words, by[0]
    if by := found.by("property"):
        words = plural(len(by), "property test")
        yield words + (f" with {found.cases(by):,} cases" if found.ran else ""), by[0]
    if peers := [peer for peer in PEERS if found.by(peer)]:
        yield f"agreement with {joined([PEERS[p] for p in peers])}", found.by(peers[0])[0]
    if by := found.by("statistical"):
        one_in = float(f"{1 / sum(check.false_alarm or 0 for check in by):.2g}")
        yield f"{plural(len(by), 'statistical test')} (false alarm 1 in {one_in:,.0f})", by[0]
    if by := [check for check in found.checks if not check.methods]:
        yield plural(len(by), "test") + " of examples", by[0]


def is_proved(statement: nodes.Element) -> bool:
    """Whether a proof follows before the next statement."""
    siblings = statement.parent.children
    for node in siblings[siblings.index(statement) + 1 :]:
        if isinstance(node, proof_node):
            return True
        if isinstance(node, nodes.Element) and "countertype" in node:
            return False
    return False


def ways(app: Sphinx, page: str, statement: nodes.Element, found: Evidence) -> list[nodes.Node]:
    """All ways, the proof included, each but the proof a link to its test."""
    made: list[nodes.Node] = [nodes.Text("proof")] if is_proved(statement) else []
    for words, check in methods(found):
        made.append(link(app, page, check.page, check.test, words))
    return made


def separated(parts: list[nodes.Node]) -> list[nodes.Node]:
    # A line ends with a dot and does not begin with one.
    return [node for part in parts for node in (nodes.Text("\xa0· "), part)][1:]


def line_below(app: Sphinx, page: str, statement: nodes.Element) -> nodes.paragraph:
    """Return the quiet line below a statement."""
    label = statement["label"]
    if (found := gathered().get(label)) is None:
        return nodes.paragraph("", "Nothing checks this statement.", classes=["checks"])
    start = {
        "passed": "Verified: ",
        "failed": "A check failed in this build: ",
        "not run": "Checks, not run in this build: ",
    }[found.result]
    parts = ways(app, page, statement, found)
    parts.append(link(app, page, LEDGER, f"ledger-{label}", "ledger"))
    return nodes.paragraph("", start, *separated(parts), classes=["checks"])


# The ledger ---------------------------------------------------------------------------------------


class Mark(nodes.General, nodes.Element):  # type: ignore[misc]
    """Where a table goes that can be made when all pages are known."""


class MarkDirective(SphinxDirective):
    """Leave a mark with the name of the directive."""

    def run(self) -> list[nodes.Node]:
        """Leave the mark."""
        return [Mark(table=self.name)]


def table(kind: str, head: list[str], rows: dict[str, Cells]) -> nodes.table:
    """Make a table; its rows by their ids, each cell a list of paragraphs or of inline nodes."""
    made, group = nodes.table(classes=[kind]), nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]
    top, body = nodes.thead(), nodes.tbody()
    for part, lines in ((top, {"": texts(*head)}), (body, rows)):
        for name, line in lines.items():
            row = nodes.row(ids=[name] if name else [])
            for cell in line:
                blocks = cell if isinstance(cell[0], nodes.paragraph) else [paragraph(*cell)]
                row += nodes.entry("", *blocks)
            part += row
    group += [top, body]
    made += group
    return made


def paragraph(*inline: nodes.Node) -> nodes.paragraph:
    return nodes.paragraph("", "", *inline)


def texts(*cells: str) -> Cells:
    return [[nodes.Text(cell)] for cell in cells]


def largest_error(found: Evidence) -> str:
    if (worst := found.worst) is None:
        return "none allowed"
    if not worst.error:
        return "0"
    # The sign of an exponent is no place to break a line.
    return f"{worst.error:.1e} of {worst.allowed:.1e}".replace("-", "\N{MINUS SIGN}")


def ledger_row(app: Sphinx, page: str, place: str, statement: nodes.Element, name: str) -> Cells:
    label = statement["label"]
    stated = paragraph(link(app, page, place, label, name), nodes.Text(" "), *title_of(statement))
    if (found := gathered().get(label)) is None:
        return [[stated], *texts("", "", "", "no check")]
    by = paragraph(*separated(ways(app, page, statement, found)))
    if not found.ran:
        return [[stated, by], *texts("", "", f"{len(found.faults)} to catch", "not run")]
    cases, caught = found.cases(found.checks), f"{found.caught} of {len(found.faults)}"
    return [[stated, by], *texts(f"{cases:,}", largest_error(found), caught, found.result)]


def ledger(app: Sphinx, page: str) -> list[nodes.Node]:
    head = ["Statement, and how it is checked", "Cases", "Largest error", "Faults caught", "Result"]
    made: list[nodes.Node] = []
    for place in pages(app.env):
        rows = {
            f"ledger-{statement['label']}": ledger_row(app, page, place, statement, name)
            for statement, name in numbered(app.env, place)
            if statement["realtype"] not in CLAIM_NOTHING
        }
        if rows:
            heading = link(app, page, place, "", app.env.titles[place].astext())
            made.append(paragraph(nodes.strong("", "", heading)))
            made.append(table("ledger", head, rows))
    return made


def mutation_scores(app: Sphinx, page: str) -> list[nodes.Node]:
    """Show what of the run is of these sources, and name the other modules."""
    head = ["Module", "Faults made", "Caught", "Equivalent", "Not caught"]
    saved = saved_scores(ROOT)
    scores = [score for score in saved if score.is_current(ROOT)]
    rows = {
        f"scores-{score.module}": texts(
            dotted(score.module),
            f"{score.made:,}",
            f"{score.caught:,}",
            f"{score.equivalent:,}",
            f"{score.survived:,}",
        )
        for score in scores
    }
    known = {dotted(score.module) for score in scores}
    reasons = nodes.bullet_list(classes=["reasons"])
    for group in equivalents(ROOT):
        functions = {function for function, _, _ in group["faults"]}
        of_these = sorted(f for f in functions if any(f.startswith(f"{m}.") for m in known))
        if of_these:
            item = [nodes.Text(f"{group['reason']}: "), *literals(of_these)]
            reasons += nodes.list_item("", paragraph(*item))
    made: list[nodes.Node] = [table("scores", head, rows), reasons] if rows else []
    if changed := [name for score in saved if (name := dotted(score.module)) not in known]:
        text = "Changed since the last run, so that their faults wait to be made anew: "
        made.append(paragraph(nodes.Text(text), *literals(changed), nodes.Text(".")))
    return made


def dotted(module: str) -> str:
    return module.removesuffix(".py").replace("/", ".")


def literals(names: list[str]) -> list[nodes.Node]:
    """Name what is in the package, with commas between."""
    shown = [nodes.literal("", name.removeprefix("omnivault.")) for name in names]
    return [node for name in shown for node in (nodes.Text(", "), name)][1:]


TABLES = {"verification-ledger": ledger, "mutation-scores": mutation_scores}


def made_in(made: list[Fault]) -> str:
    """Count faults by what they are made in."""
    counts = Counter(fault.made_in for fault in made)
    words = {
        "omnivault": "in the package",
        "formula": "in formulas that the tests compare with",
        "helper": "in what all tests share",
    }
    return joined([f"{counts[place]:,} {words[place]}" for place in PLACES if counts[place]])


def totals() -> str:
    found, made, ran = gathered(), faults(ROOT), report()
    tests = {check.id for x in found.values() for check in x.checks}
    counted = (
        f"{plural(len(found), 'statement')} have {plural(len(tests), 'test')}, and these have to "
        f"notice {plural(len(made), 'deliberate fault')}: {made_in(made)}."
    )
    results = [x.result for x in found.values()]
    if "not run" in results or len(ran.faults) < len(made):
        return f"{counted} None of it was run for this build."
    failed = results.count("failed")
    verdict = f"tests of {plural(failed, 'statement')} failed" if failed else "all passed"
    cases = sum(outcome.cases for outcome in ran.tests.values())
    caught = list(ran.faults.values()).count("passed")
    return (
        f"{counted} In the run that this build belongs to, the tests tried {cases:,} cases and "
        f"{verdict}; {caught:,} of the {len(made):,} faults were noticed."
    )


# Sphinx -------------------------------------------------------------------------------------------


def complete(app: Sphinx, doctree: nodes.document, page: str) -> None:
    for statement in list(doctree.findall(nodes.Element)):
        if "countertype" in statement and statement["realtype"] not in CLAIM_NOTHING:
            statement += line_below(app, page, statement)
    for mark in list(doctree.findall(Mark)):
        mark.replace_self(TABLES[mark["table"]](app, page))
    for paragraph in doctree.findall(nodes.paragraph):
        if TOTALS.intersection(paragraph["ids"]):
            paragraph += nodes.Text(" " + totals())


def pages_with_tables(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """They change whenever any other page does."""
    return [page for page in env.found_docs if any(doctree_of(env, page).findall(Mark))]


def note_state(app: Sphinx, config: Config) -> None:
    """Write every page anew when the tests, or the report of their run, are not as they were."""
    report.cache_clear()
    gathered.cache_clear()
    scores = [(score, score.is_current(ROOT)) for score in saved_scores(ROOT)]
    state = repr((gathered(), scores, equivalents(ROOT)))
    config.verification_state = hashlib.sha256(state.encode()).hexdigest()


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_config_value("verification_state", "", "html", str)
    app.add_node(Mark)
    for name in TABLES:
        app.add_directive(name, MarkDirective)
    app.connect("config-inited", note_state)
    app.connect("env-updated", pages_with_tables)
    app.connect("doctree-resolved", complete)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
