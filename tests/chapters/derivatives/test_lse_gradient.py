"""The proposition `lse-gradient`: Softmax is its gradient."""

from __future__ import annotations

from typing import Any

import pytest
import sympy

from tests.chapters.derivatives.common import (
    TEMPERATURE,
    Vector,
    jacobian_formula,
    symbolic_lse,
    symbolic_softmax,
    symbols,
    vanishes,
)


def variance_in_symbols(p: Vector, v: Vector) -> Any:
    mean = sum(q * x for q, x in zip(p, v, strict=True))
    return sum(q * (x - mean) ** 2 for q, x in zip(p, v, strict=True))


@pytest.mark.statement("lse-gradient", "symbolic")
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_gradient_and_hessian_of_the_smooth_maximum_in_symbols(k: int) -> None:
    z, v = symbols(k), list(sympy.symbols(f"v:{k}", real=True))
    p = symbolic_softmax(z)
    gradient = [sympy.diff(symbolic_lse(z), x) for x in z]
    assert all(vanishes(a - b) for a, b in zip(gradient, p, strict=True))
    hessian = sympy.Matrix(gradient).jacobian(z)
    formula = sympy.Matrix(jacobian_formula(p, TEMPERATURE))
    assert all(map(vanishes, hessian - formula))
    form = (sympy.Matrix([v]) * hessian * sympy.Matrix(v))[0]
    assert vanishes(form - variance_in_symbols(p, v) / TEMPERATURE)
