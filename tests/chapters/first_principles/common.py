"""What the tests of several statements of this chapter share."""

from __future__ import annotations

import torch

from tests.support.strategies import unit

U = unit(torch.float64)
A = [1.0, 5.0, 6.0, 3.0]
B = [-12.0, 120.0, -203.0, 2.0]
