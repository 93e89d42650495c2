from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

from omnivault.calibration import expected_calibration_error, fit_temperature
from omnivault.softmax import softmax
from tests.package.calibration.common import assert_best, loss_at, rounding_of_loss


def digits() -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return pixels[order] / 16, labels[order]


def test_temperature_of_digits_is_that_of_scikit_learn() -> None:
    pixels, labels = digits()
    model = LogisticRegression(C=1e3, max_iter=2000).fit(pixels[:500], labels[:500])
    held_out, truth = pixels[500:1100], labels[500:1100]
    calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="temperature")
    (one,) = calibrated.fit(held_out, truth).calibrated_classifiers_
    temperature = fit_temperature(
        torch.tensor(model.decision_function(held_out)), torch.tensor(truth)
    )
    # It keeps beta = 1 / T, and its minimizer sees no more than losses: it stops where steps of
    # 1e-8 no longer change them, at a slope of 1e-5, say.
    theirs = 1 / one.calibrators[0].beta_
    assert temperature == pytest.approx(theirs, rel=1e-4)
    z, y = torch.tensor(model.decision_function(held_out)), torch.tensor(truth)
    rounding = rounding_of_loss(z, y, temperature)
    assert loss_at(z, y, temperature) <= loss_at(z, y, theirs) + 2 * rounding
    assert temperature > 1.5


def test_temperature_mends_a_network_that_is_too_sure_of_its_digits() -> None:
    pixels, labels = digits()
    x, y = torch.tensor(pixels, dtype=torch.float32), torch.tensor(labels)
    # A fifth of the training labels is wrong, and the network learns them by heart.
    learned = y[:300].clone()
    learned[::5] = (learned[::5] + 1) % 10
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torch.nn.Sequential(
            torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
        )
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        functional.cross_entropy(network(x[:300]), learned).backward()
        optimizer.step()
    with torch.no_grad():
        z = network(x)
    with pytest.raises(ValueError, match="no temperature is best"):
        fit_temperature(z[:300], learned)
    held_out, test = slice(300, 1000), slice(1000, None)
    temperature = fit_temperature(z[held_out], y[held_out])
    assert_best(z[held_out], y[held_out])
    assert temperature > 1.5
    # On data that neither the training nor the fit has seen.
    assert loss_at(z[test], y[test], temperature) < loss_at(z[test], y[test], 1.0) - 0.1
    before = expected_calibration_error(softmax(z[test]), y[test])
    after = expected_calibration_error(softmax(z[test], temperature=temperature), y[test])
    assert after < before / 2
