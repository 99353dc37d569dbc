"""Which tokens may come next, and with which probabilities: each rule as its paper has it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from aibig.errors import UserError
from aibig.generation.sampling import Sampling, sample_tokens, uniform_numbers
from aibig.generation.speculative import rejection_sample

LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0, -2.0]])


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"top_k": 2}, [0, 1]),
        ({"top_k": 9}, [0, 1, 2, 3, 4]),
        ({"top_p": 0.63}, [0]),  # the most likely has 0.636
        ({"top_p": 0.65}, [0, 1]),
        ({"top_p": 0.0}, [0]),
        ({"min_p": 0.1}, [0, 1, 2]),  # exp(-2) = 0.135, exp(-3) = 0.050
        ({"top_k": 3, "top_p": 0.9, "min_p": 0.3}, [0, 1]),
        ({"temperature": 0.0}, [0]),
    ],
)
def test_what_is_kept_keeps_its_proportions(settings: dict[str, Any], kept: list[int]) -> None:
    probabilities = Sampling(**settings).probabilities(LOGITS)[0]
    expected = torch.zeros(5)
    expected[kept] = LOGITS[0, kept].softmax(0)
    torch.testing.assert_close(probabilities, expected)


def test_temperature_divides_before_anything_is_left_out() -> None:
    probabilities = Sampling(temperature=2.0, min_p=0.3).probabilities(LOGITS)[0]
    torch.testing.assert_close(probabilities, torch.cat([(LOGITS[0, :3] / 2).softmax(0), torch.zeros(2)]))


def test_tokens_that_appeared_are_penalised_whatever_the_sign_of_their_logits() -> None:
    appeared = torch.tensor([[True, False, False, True, False]])
    probabilities = Sampling(repetition_penalty=2.0).probabilities(LOGITS, appeared)
    torch.testing.assert_close(probabilities, torch.tensor([[1.0, 1.0, 0.0, -2.0, -2.0]]).softmax(-1))
    greedy = Sampling(temperature=0, repetition_penalty=4.0)
    assert greedy.next_tokens(LOGITS, torch.zeros(1), appeared).item() == 1


def test_tokens_are_sampled_as_often_as_their_probabilities_say() -> None:
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.2, 0.0])
    uniform = uniform_numbers([1], 1, 100_000)[0, 0]
    tokens = sample_tokens(probabilities.expand(len(uniform), -1), uniform)
    frequencies = torch.bincount(tokens, minlength=5) / len(uniform)
    assert (frequencies - probabilities).abs().max() < 0.005 and frequencies[[1, 4]].sum() == 0
    assert sample_tokens(probabilities, torch.tensor(1 - 2**-20)).item() == 3, "not one of probability 0"


def pair_frequencies(first: Tensor, second: Tensor) -> Tensor:
    """How often each pair of tokens occurred, (V, V)."""
    return torch.bincount(first * 4 + second, minlength=16).view(4, 4) / len(first)


def test_accepted_and_replaced_tokens_have_the_target_distribution() -> None:
    torch.manual_seed(0)
    rows = 200_000
    draft, target = torch.randn(2, 4).softmax(-1), torch.randn(3, 4).softmax(-1)  # two tokens ahead
    uniform = uniform_numbers([0], 5, rows)[0]
    proposed = torch.stack([sample_tokens(draft[at].expand(rows, -1), uniform[at]) for at in range(2)], 1)
    sample_uniform = torch.rand(rows, 3, generator=torch.Generator().manual_seed(5))
    accepted, following = rejection_sample(
        proposed, draft.expand(rows, -1, -1), target.expand(rows, -1, -1), uniform[2:4].T, sample_uniform
    )
    tokens = torch.cat([proposed, torch.zeros(rows, 1, dtype=torch.long)], 1)
    tokens[torch.arange(rows), accepted] = following
    assert {*accepted.tolist()} == {0, 1, 2}
    first = torch.bincount(tokens[:, 0], minlength=4) / rows
    assert (first - target[0]).abs().max() < 0.005
    more = accepted >= 1
    expected = torch.minimum(target[0], draft[0])  # how often each first token is accepted
    pairs = pair_frequencies(tokens[more, 0], tokens[more, 1]) * more.float().mean()
    assert (pairs - expected.unsqueeze(1) * target[1]).abs().max() < 0.005
    third = torch.bincount(tokens[accepted == 2, 2], minlength=4) / (accepted == 2).sum()
    assert (third - target[2]).abs().max() < 0.01


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"temperature": -1.0}, "temperature must be a number, at least 0, not -1.0"),
        ({"top_k": 0}, "top_k must be a whole number, at least 1"),
        ({"top_p": 1.5}, "top_p must be a number, from 0 to 1"),
        ({"min_p": -0.1}, "min_p must be"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be a number, greater than 0"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(UserError, match=error):
        Sampling(**settings)
