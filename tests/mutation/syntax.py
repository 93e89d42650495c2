"""A change of a program that names what it changes by syntax, so that no formatting breaks it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

Place = list[ast.expr] | list[ast.stmt]
"""One expression, or statements that follow one another."""


def replaced(text: str, function: str, old: str, new: str) -> str:
    """Put ``new`` in the place of ``old``.

    Parameters
    ----------
    text
        A program.
    function
        Where: the name of a function, such as "Categorical.sample", or of a value of the module.
    old
        An expression, or one or more statements, that the function holds once.
    new
        Another one, or others.

    Raises
    ------
    ValueError
        There is no such function, or it does not hold ``old``, or more than once.
    """
    tree = ast.parse(text)
    named = [node for name, node in definitions(tree) if name == function]
    if len(named) != 1:
        raise ValueError(f"{len(named)} functions or values are called {function}, not one")
    places = list(occurrences(named[0], old))
    if len(places) != 1:
        raise ValueError(f"{function} holds {old!r} {len(places)} times, not once")
    [place] = places
    lines = text.encode().splitlines(keepends=True)
    start, end = offset(lines, *beginning(place[0])), offset(lines, *ending(place[-1]))
    if isinstance(place[0], ast.expr):
        new = f"({new})"
    else:
        new = new.strip().replace("\n", "\n" + " " * place[0].col_offset)
    data = b"".join(lines)
    return (data[:start] + new.encode() + data[end:]).decode()


def definitions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Give all functions and classes with their names, and the values of the module."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield prefix + node.name, node
            yield from definitions(node, f"{prefix}{node.name}.")
        elif isinstance(tree, ast.Module) and isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            yield ast.unparse(target), node
        else:
            yield from definitions(node, prefix)


def occurrences(within: ast.AST, old: str) -> Iterator[Place]:
    pattern = ast.parse(old).body
    if len(pattern) == 1 and isinstance(pattern[0], ast.Expr):
        wanted = meaning(pattern[0].value)
        for node in ast.walk(within):
            if isinstance(node, ast.expr) and meaning(node) == wanted:
                yield [node]
        return
    several = [meaning(statement) for statement in pattern]
    for node in ast.walk(within):
        for block in ("body", "orelse", "finalbody"):
            statements = getattr(node, block, None)
            if not isinstance(statements, list):  # the body of a lambda is an expression
                continue
            for i in range(len(statements) - len(several) + 1):
                run: list[ast.stmt] = statements[i : i + len(several)]
                if [meaning(statement) for statement in run] == several:
                    yield run


def meaning(node: ast.AST) -> str:
    """Two pieces of a program have the same if they differ in nothing but their looks."""
    return ast.dump(node)


def beginning(node: ast.expr | ast.stmt) -> tuple[int, int]:
    decorators = getattr(node, "decorator_list", [])
    if decorators:
        return decorators[0].lineno, decorators[0].col_offset - 1
    return node.lineno, node.col_offset


def ending(node: ast.expr | ast.stmt) -> tuple[int, int]:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return node.end_lineno, node.end_col_offset


def offset(lines: list[bytes], line: int, column: int) -> int:
    return sum(map(len, lines[: line - 1])) + column
