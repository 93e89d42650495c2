"""One contract of generators: none, one for all rows, or one for each row."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from omnivault.decoding import sample_sequence
from omnivault.distributions import Bernoulli, Categorical, Multinomial
from omnivault.inverse_cdf import inverse_cdf
from omnivault.sampling import plain_sample, sample
from omnivault.speculative import accept_or_redraw, speculative_sequence

ROWS = 5
LOGITS = torch.randn(ROWS, 8, generator=torch.Generator().manual_seed(0))


def redrawn(z: Tensor, generator: Any) -> Tensor:
    p, q = z.softmax(-1), z.flip(-1).softmax(-1)
    return accept_or_redraw(p, q, torch.zeros(len(z), dtype=torch.int64), generator=generator)[0]


def texts(z: Tensor, generator: Any) -> Tensor:
    prompt = torch.zeros(len(z), 1, dtype=torch.int64)
    return sample_sequence(lambda ids: z, prompt, max_new_tokens=4, generator=generator)


DRAWS: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "sample": lambda z, g: sample(z, generator=g),
    "sample, top_p": lambda z, g: sample(z, top_p=0.5, generator=g),
    "plain_sample": lambda z, g: plain_sample(z, top_p=0.5, generator=g),
    "inverse_cdf": lambda z, g: inverse_cdf(z.exp(), generator=g),
    "accept_or_redraw": redrawn,
    "sample_sequence": texts,
    "Bernoulli": lambda z, g: Bernoulli(z[:, 0].sigmoid()).sample(30, generator=g).T,
    "Categorical": lambda z, g: Categorical(z.softmax(-1)).sample(9, generator=g).T,
    "Multinomial": lambda z, g: Multinomial(7, z.softmax(-1)).sample(3, generator=g).movedim(1, 0),
}
every_draw = pytest.mark.parametrize("name", DRAWS)


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@every_draw
@pytest.mark.parametrize("collect", [list, tuple])
def test_what_a_row_draws_depends_on_its_own_generator(
    name: str, collect: Callable[[Any], Any]
) -> None:
    draw = DRAWS[name]
    together = draw(LOGITS, collect(seeded(*range(ROWS))))
    order = [3, 0, 4, 1, 2]
    other = draw(LOGITS[order], collect(seeded(*order)))
    assert torch.equal(other, together[order])


@every_draw
def test_one_serves_all_rows_and_none_is_the_global_one(name: str) -> None:
    draw, [one] = DRAWS[name], seeded(7)
    torch.manual_seed(7)
    assert torch.equal(draw(LOGITS, None), draw(LOGITS, one))


@every_draw
@pytest.mark.parametrize("number", [0, 4, 6])
def test_another_number_of_generators_is_shown(name: str, number: int) -> None:
    message = f"{number} generators for 5 rows; give one for all rows, or one for each"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        DRAWS[name](LOGITS, seeded(*range(number)))


@every_draw
@pytest.mark.parametrize(
    "bad", [7, "abcde", [1] * ROWS, set(seeded(*range(ROWS))), iter(seeded(*range(ROWS)))]
)
def test_what_is_no_generator_and_no_list_of_them_is_shown(name: str, bad: Any) -> None:
    with pytest.raises(TypeError, match=r"^generator must be a torch.Generator, a list with one "):
        DRAWS[name](LOGITS, bad)


def test_a_speculative_text_is_one_row() -> None:
    def write(generator: Any) -> Tensor:
        return speculative_sequence(
            lambda ids: LOGITS[:1].expand(len(ids), 8),
            lambda ids: LOGITS[1:2].expand(len(ids), 8),
            torch.tensor([0]),
            max_new_tokens=12,
            generator=generator,
        ).ids

    assert torch.equal(write(seeded(3)), write(seeded(3)[0]))
    with pytest.raises(ValueError, match=r"^2 generators for 1 rows; "):
        write(seeded(1, 2))
