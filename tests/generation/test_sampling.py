"""Which tokens may come next, and how likely: each rule as its paper has it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from aibig.errors import UserError
from aibig.generation.sampling import Sampling, draws_of, pick
from aibig.generation.speculative import accept

LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0, -2.0]])


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"top_k": 2}, [0, 1]),
        ({"top_k": 9}, [0, 1, 2, 3, 4]),
        ({"top_p": 0.63}, [0]),  # the likeliest has 0.636
        ({"top_p": 0.65}, [0, 1]),
        ({"top_p": 0.0}, [0]),
        ({"min_p": 0.1}, [0, 1, 2]),  # exp(-2) = 0.135, exp(-3) = 0.050
        ({"top_k": 3, "top_p": 0.9, "min_p": 0.3}, [0, 1]),
        ({"temperature": 0.0}, [0]),
    ],
)
def test_what_is_kept_keeps_its_proportions(settings: dict[str, Any], kept: list[int]) -> None:
    likely = Sampling(**settings).probabilities(LOGITS)[0]
    expected = torch.zeros(5)
    expected[kept] = LOGITS[0, kept].softmax(0)
    torch.testing.assert_close(likely, expected)


def test_temperature_divides_before_anything_is_left_out() -> None:
    likely = Sampling(temperature=2.0, min_p=0.3).probabilities(LOGITS)[0]
    torch.testing.assert_close(likely, torch.cat([(LOGITS[0, :3] / 2).softmax(0), torch.zeros(2)]))


def test_what_was_seen_is_penalised_whatever_its_sign() -> None:
    seen = torch.tensor([[True, False, False, True, False]])
    likely = Sampling(repetition_penalty=2.0).probabilities(LOGITS, seen)
    torch.testing.assert_close(likely, torch.tensor([[1.0, 1.0, 0.0, -2.0, -2.0]]).softmax(-1))
    greedy = Sampling(temperature=0, repetition_penalty=4.0)
    assert greedy.choose(LOGITS, torch.zeros(1), seen).item() == 1


def test_draws_pick_tokens_as_often_as_they_are_likely() -> None:
    likely = torch.tensor([0.5, 0.0, 0.3, 0.2, 0.0])
    draws = draws_of([1], 1, 100_000)[0, 0]
    shares = torch.bincount(pick(likely.expand(len(draws), -1), draws), minlength=5) / len(draws)
    assert (shares - likely).abs().max() < 0.005 and shares[[1, 4]].sum() == 0
    assert pick(likely, torch.tensor(1 - 2**-20)).item() == 3, "a token that can't come is never picked"


def shares_of(first: Tensor, second: Tensor) -> Tensor:
    """How often each pair occurred, (V, V)."""
    return torch.bincount(first * 4 + second, minlength=16).view(4, 4) / len(first)


def test_what_is_accepted_or_drawn_instead_has_the_wanted_distribution() -> None:
    torch.manual_seed(0)
    rows = 200_000
    drafted, wanted = torch.randn(2, 4).softmax(-1), torch.randn(3, 4).softmax(-1)  # two tokens ahead
    draws = draws_of([0], 5, rows)[0]
    proposed = torch.stack([pick(drafted[at].expand(rows, -1), draws[at]) for at in range(2)], 1)
    own = torch.rand(rows, 3, generator=torch.Generator().manual_seed(5))
    accepted, follow = accept(proposed, drafted.expand(rows, -1, -1), wanted.expand(rows, -1, -1), draws[2:4].T, own)
    tokens = torch.cat([proposed, torch.zeros(rows, 1, dtype=torch.long)], 1)
    tokens[torch.arange(rows), accepted] = follow
    assert {*accepted.tolist()} == {0, 1, 2}
    first = torch.bincount(tokens[:, 0], minlength=4) / rows
    assert (first - wanted[0]).abs().max() < 0.005
    more = accepted >= 1
    expected = wanted[0] * 0 + torch.minimum(wanted[0], drafted[0])  # how often each first token is accepted
    pairs = shares_of(tokens[more, 0], tokens[more, 1]) * more.float().mean()
    assert (pairs - expected.unsqueeze(1) * wanted[1]).abs().max() < 0.005
    third = torch.bincount(tokens[accepted == 2, 2], minlength=4) / (accepted == 2).sum()
    assert (third - wanted[2]).abs().max() < 0.01


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"temperature": -1.0}, "temperature must be a number, at least 0, not -1.0"),
        ({"top_k": 0}, "top_k must be a whole number, at least 1"),
        ({"top_p": 1.5}, "top_p must be a number, from 0 to 1"),
        ({"min_p": -0.1}, "min_p must be"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be a number, greater than 0"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        Sampling(**settings)
