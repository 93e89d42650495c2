"""What the tests of several statements of this chapter share."""

from __future__ import annotations

import pytest

from tests.support.strategies import DTYPES

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
