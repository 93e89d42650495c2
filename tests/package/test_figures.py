"""The figures: every function returns its axes, and what it draws are the numbers it was given."""

from __future__ import annotations

import hashlib
import importlib
import io
import pkgutil
from collections.abc import Callable, Iterator

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from omnivault import figures
from omnivault.calibration import reliability_bins
from omnivault.figures import (
    calibration,
    categorical_family,
    classification,
    common,
    cuts,
    decoding,
    derivatives,
    first_principles,
    numerics,
    probability,
    properties,
    style,
    temperature,
)
from omnivault.softmax import logsumexp, softmax
from tests.support.strategies import assert_within, unit

LOGITS = torch.tensor([2.0, 1.0, 3.0])


@pytest.fixture(autouse=True)
def _book_style() -> Iterator[None]:
    with mpl.rc_context():
        mpl.use("agg")
        style.use_book_style()
        yield
        plt.close("all")


DRAWINGS: dict[str, Callable[[Axes], Axes]] = {
    "bars": lambda ax: common.bars(ax, softmax(LOGITS), ["a", "b", "c"]),
    "share_under_shift": lambda ax: first_principles.share_under_shift(
        ax, LOGITS, {"exp": torch.exp}, torch.linspace(-5, 5, 11)
    ),
    "paths": lambda ax: common.paths(
        ax, torch.tensor([1.0, 2.0]), softmax(LOGITS.expand(2, 3)), ["a", "b", "c"], xlabel="T"
    ),
    "level_sets": properties.level_sets,
    "smooth_maximum": lambda ax: properties.smooth_maximum(ax, (0.5, 2.0)),
    "entropy_levels": lambda ax: categorical_family.entropy_levels(ax, torch.tensor([0.5, 1.0])),
    "entropy_objective": lambda ax: properties.entropy_objective(ax, LOGITS[:2], (0.5, 2.0)),
    "lipschitz_ratios": lambda ax: properties.lipschitz_ratios(
        ax, {"K = 2": torch.tensor([0.1, 1.0])}, {"K = 2": torch.tensor([0.9, 0.5])}
    ),
    "reliability": lambda ax: probability.reliability(
        ax, {"model": torch.linspace(0, 1, 400)}, torch.arange(400) % 2 == 0
    ),
    "reliability_diagram": lambda ax: calibration.reliability_diagram(
        ax, reliability_bins(torch.linspace(0, 1, 400), torch.arange(400) % 2 == 0, 10)
    ),
    "search_tree": lambda ax: decoding.search_tree(ax, {"a": 0.6, "b": 0.4, "bb": 0.4}, {"b"}),
    "commutation": lambda ax: cuts.commutation(
        ax, ["T", "k", "p"], {("T", "p"): 2, ("k", "p"): 3, ("p", "p"): 3}, ring=("T", "p")
    ),
    "images": lambda ax: common.images(ax, torch.eye(8).expand(3, 8, 8), ["a", "b", "c"]),
    "regions": lambda ax: classification.regions(
        ax, lambda x: softmax(x @ torch.eye(2, 3)), torch.zeros(4, 3, 2)
    ),
    "matrix": lambda ax: derivatives.matrix(ax, torch.tensor([[1.0, -1.0], [-1.0, 1.0]])),
    "exponent_ranges": lambda ax: numerics.exponent_ranges(ax, {"float16": (-17.3, -9.7, 11.1)}),
    "simplex_paths": lambda ax: temperature.simplex_paths(common.simplex(ax), {"a": LOGITS}),
    "simplex": common.simplex,
    "simplex_grid": lambda ax: probability.simplex_grid(ax, torch.tensor([-1.0, 1.0])),
}


def points(line: Line2D) -> Tensor:
    """What a line was drawn through, shape (N, 2)."""
    return torch.as_tensor(np.asarray(line.get_xydata()))


def svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "any"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


@pytest.mark.parametrize("name", DRAWINGS)
def test_each_figure_returns_its_axes_and_is_the_same_on_every_run(name: str) -> None:
    digests = set()
    for _ in range(2):
        figure, ax = plt.subplots()
        assert DRAWINGS[name](ax) is ax
        digests.add(hashlib.sha256(svg(figure)).hexdigest())
    assert len(digests) == 1


def test_every_drawing_function_is_tried_above() -> None:
    # Tables are tried in a file of their own.
    modules = {m.name for m in pkgutil.iter_modules(figures.__path__)} - {"style", "tables"}
    public = {
        name
        for module in modules
        for name in importlib.import_module(f"omnivault.figures.{module}").__all__
    }
    assert public - {"simplex_points"} == set(DRAWINGS)


def test_a_figure_of_default_size_fits_a_phone_without_shrinking_its_text_below_nine_pixels() -> (
    None
):
    width, _ = mpl.rcParams["figure.figsize"]
    smallest = min(mpl.rcParams["xtick.labelsize"], mpl.rcParams["ytick.labelsize"])
    phone = 390 - 2 * 16  # the page's margins
    assert width <= style.WIDTH
    assert smallest / 72 * 96 * phone / (width * 96) >= 9


@pytest.mark.parametrize("color", style.COLORS)
def test_every_color_has_contrast_of_three_to_one_on_white(color: str) -> None:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    luminance = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    assert 1.05 / (luminance + 0.05) >= 3  # WCAG 2.2, 1.4.11


def test_figures_have_no_ground_of_their_own() -> None:
    figure, ax = plt.subplots()
    for part in (figure, ax):
        assert to_rgba(part.get_facecolor())[3] == 0


def test_bars_show_the_values_from_top_to_bottom() -> None:
    _, ax = plt.subplots()
    common.bars(ax, torch.tensor([0.25, -0.5]), ["first", "second"])
    lengths = [bar.get_width() for bar in ax.patches if isinstance(bar, Rectangle)]
    assert lengths == [0.25, -0.5]
    assert [text.get_text() for text in ax.texts] == ["0.25", "-0.5"]
    assert ax.yaxis_inverted()


def test_paths_name_the_largest_class_first() -> None:
    _, ax = plt.subplots()
    p = torch.tensor([[0.1, 0.9], [0.4, 0.6]])
    common.paths(ax, torch.tensor([1.0, 2.0]), p, ["small", "large"], xlabel="T")
    assert [line.get_label() for line in ax.lines] == ["large", "small"]
    assert torch.equal(points(ax.lines[0])[:, 1], p[:, 1].double())


def test_share_under_shift_is_flat_for_the_exponential_alone() -> None:
    _, ax = plt.subplots()
    shifts = torch.linspace(-5, 5, 11)
    first_principles.share_under_shift(
        ax, LOGITS, {"exp": torch.exp, "sigmoid": torch.sigmoid}, shifts
    )
    exponential, sigmoid = (points(line)[:, 1] for line in ax.lines)
    # In float32: logits up to 8, rounded, exp to 8 u, a sum and a quotient.
    expected = softmax(LOGITS.double()).max().expand(11)
    torch.testing.assert_close(exponential, expected, rtol=0, atol=64 * unit(torch.float32))
    assert sigmoid.max() - sigmoid.min() > 0.1


def test_more_series_than_styles_are_all_drawn() -> None:
    many = [0.1 * k for k in range(1, 10)]
    assert len(many) > max(len(style.LINES), len(style.MARKERS))
    _, ax = plt.subplots()
    properties.smooth_maximum(ax, many)
    assert len(ax.lines) == len(many) + 1  # and the maximum
    _, ax = plt.subplots()
    properties.entropy_objective(ax, LOGITS[:2], many)
    assert len(ax.lines) == 2 * len(many)
    legends: list[Callable[[Axes], Axes]] = [
        lambda ax: first_principles.share_under_shift(
            ax, LOGITS, {str(k): torch.exp for k in many}, torch.linspace(-1, 1, 3)
        ),
        lambda ax: properties.lipschitz_ratios(
            ax, *({str(k): torch.ones(1) for k in many} for _ in range(2))
        ),
        lambda ax: probability.reliability(
            ax, {str(k): torch.full((40,), k) for k in many}, torch.ones(40, dtype=torch.bool)
        ),
    ]
    for drawing in legends:
        _, ax = plt.subplots()
        drawing(ax)
        assert len(ax.get_legend_handles_labels()[1]) == len(many)


def test_entropy_objective_marks_the_highest_point_of_each_curve() -> None:
    _, ax = plt.subplots()
    z = torch.tensor([1.0, 0.0])
    properties.entropy_objective(ax, z, (0.5,))
    curve, marker = ax.lines
    best, height = points(marker)[0].tolist()
    assert best == pytest.approx(softmax(z, temperature=0.5)[0].item())
    assert height == pytest.approx(logsumexp(z, temperature=0.5).item())
    # Both in float32, with logarithms to 8 u.
    assert points(curve)[:, 1].max() <= height + 32 * unit(torch.float32)


def test_reliability_of_a_calibrated_claim_lies_on_the_diagonal() -> None:
    _, ax = plt.subplots()
    claims = torch.full((1000,), 0.75)
    probability.reliability(ax, {"calibrated": claims}, torch.arange(1000) % 4 != 0)
    assert points(ax.lines[1]).tolist() == [[0.75, 0.75]]


def test_reliability_diagram_leaves_small_groups_out() -> None:
    claims = torch.tensor([0.25] * 2 + [0.75] * 4)
    groups = reliability_bins(claims, torch.arange(6) % 2 == 0, bins=2)
    for least, expected in ((1, [[0.25, 0.5], [0.75, 0.5]]), (3, [[0.75, 0.5]])):
        _, ax = plt.subplots()
        calibration.reliability_diagram(ax, groups, least=least)
        assert points(ax.lines[1]).tolist() == expected


def test_images_stand_side_by_side_in_rows_under_their_labels() -> None:
    _, ax = plt.subplots()
    common.images(ax, torch.arange(12.0).reshape(3, 2, 2), ["a", "b", "c"], columns=2)
    corners = [tuple(image.get_extent())[::3] for image in ax.images]
    assert corners[:2] == [(0, 0), (3, 0)]
    left, top = corners[2]
    assert left == 0
    assert top > 2  # below the first row, with room for a label
    assert [text.get_text() for text in ax.texts] == ["a", "b", "c"]
    assert {image.get_clim() for image in ax.images} == {(0, 11)}


def test_signed_images_and_matrices_are_white_at_zero() -> None:
    values = torch.tensor([[-3.0, 0.0], [0.0, 1.0]])
    _, ax = plt.subplots()
    common.images(ax, values.expand(1, 2, 2), ["a"], signed=True)
    _, other = plt.subplots()
    derivatives.matrix(other, values)
    for drawn in (ax, other):
        (image,) = drawn.images
        low, high = image.get_clim()
        assert -low == high == 3
        assert to_rgb(image.to_rgba(np.zeros((1, 1)))[0, 0]) == pytest.approx((1, 1, 1), abs=0.02)
    assert [text.get_text() for text in other.texts] == ["-3", "0", "0", "1"]


def test_regions_color_the_most_probable_class_and_show_the_draws() -> None:
    draws = torch.tensor([[[-1.0, 0.0], [1.0, 0.0]]])
    _, ax = plt.subplots()
    classification.regions(ax, lambda x: softmax(x * torch.tensor([-1.0, 0.0])), draws)
    assert [points(line).tolist() for line in ax.lines] == [[[-1.0, 0.0]], [[1.0, 0.0]]]


def test_simplex_paths_start_in_the_cold_limit_and_pass_through_temperature_one() -> None:
    _, ax = plt.subplots()
    temperature.simplex_paths(ax, {"tie": torch.tensor([2.0, 2.0, 0.0])})
    curve, cold, one = (points(line) for line in ax.lines)
    corners = common.simplex_points(torch.eye(3, dtype=torch.float64))
    near = 8 * unit(torch.float64)  # sums of three
    assert_within(curve[0], corners[:2].mean(0), near)
    assert_within(cold[0], corners[:2].mean(0), near)
    # At T = 10,000 the probabilities are within 2/T of the limit.
    torch.testing.assert_close(curve[-1], corners.mean(0), rtol=0, atol=2e-4)
    p = softmax(torch.tensor([2.0, 2.0, 0.0], dtype=torch.float64))
    assert_within(one[0], common.simplex_points(p), near)


def test_exponent_ranges_meet_at_the_borders() -> None:
    _, ax = plt.subplots()
    numerics.exponent_ranges(ax, {"a": (-20.0, -10.0, 11.0), "b": (-200.0, -100.0, 110.0)})
    edges = [
        (bar.get_x(), bar.get_x() + bar.get_width())
        for bar in ax.patches
        if isinstance(bar, Rectangle)
    ]
    zones = [(-1000, -20), (-20, -10), (-10, 11), (11, 1000)]
    assert np.allclose(edges[:4], zones)
    assert len(edges) == 8
    assert len(ax.get_legend_handles_labels()[1]) == 4


def test_simplex_corners_are_one_apart_and_the_center_is_in_the_middle() -> None:
    corners = common.simplex_points(torch.eye(3, dtype=torch.float64))
    expected = torch.ones(3, 3, dtype=torch.float64) - torch.eye(3, dtype=torch.float64)
    near = 8 * unit(torch.float64)  # sums of three, and a root of 3
    assert_within(torch.cdist(corners, corners), expected, near)
    center = common.simplex_points(torch.full((3,), 1 / 3, dtype=torch.float64))
    assert_within(center, corners.mean(0), near)


def test_temperature_color_goes_from_cold_to_hot_and_stops_at_the_ends() -> None:
    assert style.temperature_color(0.001) == style.temperature_color(0.1)
    assert style.temperature_color(1e6) == style.temperature_color(10.0)
    reds = [to_rgb(style.temperature_color(t))[0] for t in (0.1, 1.0, 10.0)]
    assert reds == sorted(reds)
