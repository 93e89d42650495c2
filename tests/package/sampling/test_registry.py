"""The registry of truncations: whatever is in it can be asked of every sampler."""

from __future__ import annotations

import inspect
import re

import pytest
import scipy.stats
import torch

from omnivault import sampling
from omnivault.decoding import sample_sequence
from omnivault.sampling import TRUNCATIONS, Truncation, plain_sample, sample
from tests.package.sampling.common import generator, kept, logits_of

SETTINGS = {
    "top_k": 3,
    "top_n_sigma": 1.0,
    "top_p": 0.6,
    "min_p": 0.2,
    "typical_p": 0.6,
    "epsilon_cutoff": 0.05,
    "eta_cutoff": 0.2,
    "top_a": 0.4,
    "p_less": 2.0,
    "top_h": 0.8,
    "tail_free": 0.9,
    "xtc": 0.1,
}
"""A value of each dial that rules something out and keeps something."""

every_truncation = pytest.mark.parametrize("name", TRUNCATIONS)


def test_each_truncation_is_public_and_has_a_setting_here() -> None:
    assert set(TRUNCATIONS) == set(SETTINGS)
    assert set(TRUNCATIONS) <= set(sampling.__all__)
    commuting = [rule.commutes for rule in TRUNCATIONS.values()]
    assert commuting == sorted(commuting, reverse=True)  # so that `sample` can take them first


@every_truncation
def test_values_for_a_slider_can_be_asked_for(name: str) -> None:
    rule = TRUNCATIONS[name]
    assert rule.off in rule.values
    assert rule.function is getattr(sampling, name)
    z = logits_of("1", 3, 1000)
    sizes = [int(kept(rule.function(z, v)).sum()) for v in rule.values if v != rule.off]
    assert sizes == sorted(sizes, reverse=sizes[0] > sizes[-1])
    assert min(sizes) < max(sizes)


@every_truncation
def test_whether_it_commutes_with_temperature_is_as_registered(name: str) -> None:
    rule, value = TRUNCATIONS[name], SETTINGS[name]
    z = logits_of("1", 200, 50, torch.float64)
    same = [
        torch.equal(kept(rule.function(z / T, value)), kept(rule.function(z, value)))
        for T in (0.25, 0.5, 2.0, 4.0)
    ]
    assert all(same) if rule.commutes else not any(same)


@every_truncation
def test_samplers_draw_what_it_keeps_with_its_probabilities(name: str) -> None:
    rule, value = TRUNCATIONS[name], SETTINGS[name]
    z = torch.linspace(0.0, 2.7, 10).unsqueeze(0)
    law = rule.function(z.double()[0] / 0.8, value).softmax(-1)
    if rule.commutes:
        law = (rule.function(z.double()[0], value) / 0.8).softmax(-1)
    rows = z.expand(20_000, 10)
    for draw in (sample, plain_sample):
        drawn = draw(rows, temperature=0.8, generator=generator(3), **{name: value})
        counts = drawn.bincount(minlength=10)
        inside = law > 0
        assert 1 < inside.sum() < 10
        assert not counts[~inside].any()
        expected = 20_000 * law[inside]
        # With the seed it passes or fails for ever; another would fail once in 10,000.
        assert scipy.stats.chisquare(counts[inside], expected).pvalue > 1e-4


def test_all_of_them_together_are_applied_in_their_order() -> None:
    z = logits_of("1", 1, 200)
    cut = z.double()[0]
    for name, rule in TRUNCATIONS.items():
        if rule.commutes:
            cut = rule.function(cut, 4 * SETTINGS[name])
    cut = cut / 2
    for name, rule in TRUNCATIONS.items():
        if not rule.commutes:
            cut = rule.function(cut, SETTINGS[name])
    dials = {n: 4 * v if TRUNCATIONS[n].commutes else v for n, v in SETTINGS.items()}
    for draw in (sample, plain_sample):
        drawn = draw(z.expand(5000, 200), temperature=2.0, generator=generator(), **dials)
        assert set(drawn.unique().tolist()) == set(kept(cut).nonzero().flatten().tolist())


def test_a_name_that_is_no_truncation_is_shown_with_those_that_are() -> None:
    z = torch.tensor([1.0, 2.0])
    message = f"there is no truncation 'top_q'; there are {', '.join(TRUNCATIONS)}"
    for draw in (sample, plain_sample):
        with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
            draw(z, top_q=0.9)
        assert draw(z, top_p=None, top_k=None, temperature=0) == 1
    with pytest.raises(TypeError, match="no truncation 'top_q'"):
        sample_sequence(lambda ids: z.expand(1, 2), torch.tensor([0]), max_new_tokens=1, top_q=1)


def test_every_field_of_a_truncation_is_described() -> None:
    source = inspect.getsource(Truncation)
    for name in Truncation.__dataclass_fields__:
        assert re.search(rf'    {name}: .*\n    """', source), name
