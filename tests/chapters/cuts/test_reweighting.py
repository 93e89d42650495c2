"""The theorem `reweighting`: Reweighting tokens and reweighting texts."""

from __future__ import annotations

from fractions import Fraction

import pytest
import scipy.stats
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from omnivault.decoding import sample_sequence
from tests.chapters.cuts.texts import (
    TEXTS,
    K,
    N,
    Steps,
    Text,
    along,
    mass,
    normalizers,
    of_texts,
    steps,
    token_by_token,
)

F = Fraction


def reachable(p: Steps, w: Steps) -> bool:
    """Whether no step that can be reached is left without mass."""
    return all(
        mass(y, p.law, w.weights) > 0 for y in p.rows if along(y, p.law) * along(y, w.weights) > 0
    )


@pytest.mark.statement("reweighting", "exact")
@given(steps(0, 3), steps(0, 3))
def test_a_text_is_drawn_with_its_weight_over_the_normalizers(p: Steps, w: Steps) -> None:
    assume(reachable(p, w))
    drawn = token_by_token(p.law, w.weights)
    assert sum(drawn.values()) == 1
    alive = [y for y in TEXTS if along(y, p.law) * along(y, w.weights) > 0]
    assert {y for y in TEXTS if drawn[y]} == set(alive)
    for y in alive:
        weight = along(y, p.law) * along(y, w.weights)
        assert drawn[y] == weight / normalizers(y, p.law, w.weights)
    constant = len({normalizers(y, p.law, w.weights) for y in alive}) == 1
    assert (drawn == of_texts(p.law, w.weights)) == constant


@pytest.mark.statement("reweighting", "exact")
@given(steps(1, 3), steps(1, 3))
def test_weights_that_leave_each_step_its_mass_reweight_texts(p: Steps, w: Steps) -> None:
    def fair(y: Text) -> list[Fraction]:
        return [x / mass(y, p.law, w.weights) for x in w.weights(y)]

    assert {normalizers(y, p.law, fair) for y in TEXTS} == {F(1)}
    assert token_by_token(p.law, fair) == of_texts(p.law, fair)


@pytest.mark.statement("reweighting", "exact")
@given(steps(1, 4), st.sets(st.sampled_from(TEXTS), min_size=1))
def test_a_mask_conditions_on_its_grammar_where_it_leaves_equal_masses(
    p: Steps, grammar: set[Text]
) -> None:
    def mask(y: Text) -> list[Fraction]:
        going = {text[len(y)] for text in grammar if text[: len(y)] == y}
        # A beginning of no text is never reached.
        return [F(token in going or not going) for token in range(K)]

    drawn = token_by_token(p.law, mask)
    whole = sum(along(y, p.law) for y in grammar)
    given_grammar = {y: along(y, p.law) / whole if y in grammar else F(0) for y in TEXTS}
    assert {y for y in TEXTS if drawn[y]} == grammar
    constant = len({normalizers(y, p.law, mask) for y in grammar}) == 1
    assert (drawn == given_grammar) == constant


def test_a_text_of_the_grammar_that_cannot_come_may_lead_to_a_dead_end() -> None:
    """Hence the hypothesis: of 00 and 11 the first never comes, and its beginning does."""
    p = {(): [F(1, 2), F(1, 2)], (0,): [F(0), F(1)], (1,): [F(0), F(1)]}
    mask = {(): [F(1), F(1)], (0,): [F(1), F(0)], (1,): [F(0), F(1)]}
    assert [mass(y, p.__getitem__, mask.__getitem__) for y in p] == [F(1), F(0), F(1)]


@pytest.mark.statement("reweighting", "statistical", false_alarm=1e-4)
def test_a_sampler_with_a_mask_draws_so() -> None:
    """The two steps of the chapter: a list, of which hardly anything is said, or a plain yes."""
    joint = {(0, 0): F(1, 2), (1, 0): F(9, 20), (1, 1): F(1, 20)}

    def masked(ids: Tensor) -> Tensor:
        rows = [[1, 1], [2, 98], [90, 10]]
        logits = torch.tensor([rows[len(y) and 1 + y[0]] for y in ids.tolist()]).double().log()
        if ids.shape[1]:
            logits[ids[:, 0] == 0, 1] = -torch.inf
        return logits

    start = torch.zeros(20_000, 0, dtype=torch.int64)
    generator = torch.Generator().manual_seed(2)
    drawn = sample_sequence(masked, start, max_new_tokens=N, generator=generator)
    counts = [int((drawn == torch.tensor(y)).all(-1).sum()) for y in joint]
    assert sum(counts) == 20_000
    expected = [float(20_000 * x) for x in joint.values()]
    assert scipy.stats.chisquare(counts, expected).pvalue > 1e-4
