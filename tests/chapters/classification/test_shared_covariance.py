"""The theorem `shared-covariance`: Gaussians with one covariance have linear logits."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import scipy.optimize
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from omnivault.softmax import log_softmax, softmax
from tests.chapters.classification.common import Model, U, generator, logits, models, normal, whole
from tests.support.strategies import assert_within, double


@st.composite
def spread_matrices(draw: DrawFn, d: int) -> Tensor:
    """Positive definite integer matrices with eigenvalues from 1 to 40."""
    root = draw(whole(d, d, bound=2))
    return root @ root.T + torch.eye(d, dtype=torch.float64)


@st.composite
def priors(draw: DrawFn, k: int) -> Tensor:
    weights = double(draw(st.lists(st.integers(1, 9), min_size=k, max_size=k)))
    return weights / weights.sum()


def linear_logits(means: Tensor, covariance: Tensor, prior: Tensor) -> Model:
    """W and b of the theorem."""
    weight = means @ torch.linalg.inv(covariance)
    return weight, -(means * weight).sum(-1) / 2 + prior.log()


def log_density(x: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    law = scipy.stats.multivariate_normal(mean.numpy(), covariance.numpy())
    return torch.as_tensor(law.logpdf(x.numpy())).reshape(len(x))


def log_posterior(x: Tensor, means: Tensor, covariances: Sequence[Tensor], prior: Tensor) -> Tensor:
    """By Bayes' rule from the densities of scipy, a row for each x."""
    densities = [log_density(x, mean, c) for mean, c in zip(means, covariances, strict=True)]
    joint = torch.stack(densities, -1) + prior.log()
    return joint - torch.as_tensor(scipy.special.logsumexp(joint.numpy(), -1, keepdims=True))


def gaussian_bound(condition: float, size: float) -> float:
    """How far logits from a covariance may be off, which is inverted here and by scipy.

    At most three dimensions: 32 roundings each, magnified by the condition number.
    """
    return 64 * condition * size * U


# Eigenvalues from 1 to 37, points up to 10 from a mean in each of three coordinates.
GAUSSIAN = gaussian_bound(37, 300)


@pytest.mark.statement("shared-covariance", "scipy")
@settings(max_examples=60)
@given(st.integers(1, 4), st.integers(1, 3), st.data())
def test_one_covariance_gives_the_stated_weights_and_biases(
    k: int, d: int, data: st.DataObject
) -> None:
    means, covariance = data.draw(whole(k, d)), data.draw(spread_matrices(d))
    prior, x = data.draw(priors(k)), data.draw(whole(4, d, bound=6))
    expected = log_posterior(x, means, [covariance] * k, prior)
    model = linear_logits(means, covariance, prior)
    assert_within(log_softmax(logits(model, x)), expected, GAUSSIAN)
    assert_within(softmax(logits(model, x)), expected.exp(), GAUSSIAN)


@pytest.mark.statement("shared-covariance", "scipy")
@pytest.mark.parametrize(
    ("means", "covariance", "prior", "weight", "bias"),
    [
        pytest.param([[0], [2]], [[1]], [0.5, 0.5], [[0], [2]], [0, -2], id="unit variance"),
        pytest.param([[0], [2]], [[4]], [0.5, 0.5], [[0], [0.5]], [0, -0.5], id="variance four"),
        pytest.param([[3], [3]], [[1]], [0.25, 0.75], [[3], [3]], [-4.5, -4.5], id="equal means"),
        pytest.param([[5]], [[2]], [1.0], [[2.5]], [-6.25], id="one class"),
        pytest.param(
            # The inverse is [[2, -1], [-1, 1]].
            [[1, 0], [0, 1], [1, 1]],
            [[1, 1], [1, 2]],
            [0.5, 0.25, 0.25],
            [[2, -1], [-1, 1], [1, 0]],
            [-1, -0.5, -0.5],
            id="correlated",
        ),
    ],
)
def test_weights_and_biases_by_hand(
    means: list[list[float]],
    covariance: list[list[float]],
    prior: list[float],
    weight: list[list[float]],
    bias: list[float],
) -> None:
    model = double(weight), double(bias) + double(prior).log()
    x = normal(5, len(covariance)) * 2
    expected = log_posterior(x, double(means), [double(covariance)] * len(prior), double(prior))
    assert_within(log_softmax(logits(model, x)), expected, GAUSSIAN)
    for mine, theirs in zip(
        linear_logits(double(means), double(covariance), double(prior)), model, strict=True
    ):
        # Condition numbers below 7, three roundings of numbers up to 2; products and logarithms.
        assert_within(mine, theirs, 64 * U)


@pytest.mark.statement("shared-covariance", "sklearn")
def test_linear_discriminant_analysis_has_the_same_weights_and_biases() -> None:
    y = torch.randint(0, 3, (200,), generator=generator())
    means = double([[0, 0, 1], [2, 0, 0], [0, 3, 0]])
    x = means[y] + normal(200, 3) @ double([[1, 0, 0], [1, 1, 0], [0, 1, 2]])
    peer = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True)
    peer.fit(x.numpy(), y.numpy())
    fitted = (torch.tensor(v) for v in (peer.means_, peer.covariance_, peer.priors_))
    means, covariance, prior = fitted
    weight, bias = linear_logits(means, covariance, prior)
    # A least-squares solution against an inverse.
    condition = torch.linalg.cond(covariance).item()
    allowed = gaussian_bound(condition, weight.norm().item())
    assert_within(weight, torch.tensor(peer.coef_), allowed)
    assert_within(bias, torch.tensor(peer.intercept_), allowed * means.norm().item())
    p = torch.tensor(peer.predict_proba(x.numpy()))
    reach = x.norm(dim=-1).max().item() + means.norm().item()
    assert_within(softmax(logits((weight, bias), x)), p, allowed * reach)


@pytest.mark.statement("shared-covariance", "scipy")
@settings(max_examples=40)
@given(models(max_classes=3, max_features=2), st.data())
def test_every_softmax_regression_is_the_posterior_of_such_gaussians(
    model: Model, data: st.DataObject
) -> None:
    weight, bias = model
    covariance = data.draw(spread_matrices(weight.shape[1]))
    means = weight @ covariance
    # Solve b_k for log pi_k; what is left over is common to all classes.
    prior = torch.softmax(bias + (means * weight).sum(-1) / 2, -1)
    # A prior of exp(-300) would leave float64's range of logarithms no digits to spare.
    x = data.draw(whole(3, weight.shape[1]))
    expected = log_posterior(x, means, [covariance] * len(bias), prior)
    # Eigenvalues from 1 to 17, means up to 97 and points up to 6 away from 0.
    assert_within(log_softmax(logits(model, x)), expected, gaussian_bound(17, 103**2 / 2))


def bend(
    means: Tensor, covariances: Sequence[Tensor], prior: Tensor, at: Tensor, step: Tensor
) -> float:
    """Second difference of the log-odds of the first class against the second."""
    x = torch.stack([at + step, at, at - step])
    log_p = log_posterior(x, means, covariances, prior)
    odds = log_p[:, 0] - log_p[:, 1]
    return float(odds[0] - 2 * odds[1] + odds[2])


@pytest.mark.statement("shared-covariance", "scipy")
@settings(max_examples=60)
@given(st.integers(1, 3), st.data())
def test_log_odds_are_affine_only_if_the_covariances_are_equal(d: int, data: st.DataObject) -> None:
    # Integer matrices as the inverses, so that different ones differ by one or more.
    precisions = [data.draw(spread_matrices(d)) for _ in range(2)]
    if data.draw(st.booleans()):
        precisions[1] = precisions[0]
    covariances = [torch.linalg.inv(p) for p in precisions]
    means, at, prior = data.draw(whole(2, d)), data.draw(whole(d)), data.draw(priors(2))
    unit_vectors = torch.eye(d, dtype=torch.float64)
    steps = [u + v for i, u in enumerate(unit_vectors) for v in unit_vectors[i:]]
    difference = precisions[1] - precisions[0]
    bends = [bend(means, covariances, prior, at, step) for step in steps]
    for value, step in zip(bends, steps, strict=True):
        # The second derivative in the proof: it does not depend on x, the means or the priors.
        # Eight log-densities of size 37 * 300 / 2.
        assert_within(value, step @ difference @ step, 8 * gaussian_bound(37, 37 * 300 / 2))
    # By polarization the forms at e_i + e_j determine the matrix. They are integers.
    affine = all(abs(value) < 0.5 for value in bends)
    assert affine == torch.equal(*precisions) == (difference == 0).all().item()


@pytest.mark.statement("shared-covariance", "scipy")
@pytest.mark.parametrize(
    ("first", "second", "straight"),
    [
        pytest.param([[2, 0], [0, 1]], [[2, 0], [0, 1]], ["x", "y", "diagonal"], id="equal"),
        pytest.param([[2, 0], [0, 1]], [[2, 0], [0, 3]], ["x"], id="equal along x"),
        pytest.param([[2, 0], [0, 1]], [[1, 0], [0, 2]], ["diagonal"], id="swapped"),
        pytest.param([[2, 1], [1, 2]], [[2, -1], [-1, 2]], ["x", "y"], id="mirrored"),
        pytest.param([[1, 0], [0, 1]], [[2, 0], [0, 2]], [], id="a multiple"),
    ],
)
def test_one_straight_direction_is_not_enough(
    first: list[list[float]], second: list[list[float]], straight: list[str]
) -> None:
    covariances = [torch.linalg.inv(double(matrix)) for matrix in (first, second)]
    directions = {"x": [1, 0], "y": [0, 1], "diagonal": [1, 1]}
    # Equal means and priors do not help.
    for means in ([[0, 0], [0, 0]], [[1, 0], [0, 2]]):
        bends = {
            name: bend(double(means), covariances, double([0.5, 0.5]), double([1, 2]), double(v))
            for name, v in directions.items()
        }
        # Integers, but for rounding.
        assert [name for name, value in bends.items() if abs(value) < 0.5] == straight
