"""How the next token is chosen from its logits. Knows no model.

B batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aibig.config.settings import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, checked

BELOW_ONE = 1 - 2**-20  # a random number times a sum stays below the sum, although it is rounded to 24 bits


class Sampling:
    """Which tokens may come next, and with which probabilities.

    Applied in this order: repetition_penalty, temperature, top_k, top_p, min_p. Tokens that tie with the last one
    that a limit admits are admitted, too.

    Args:
        temperature: logits are divided by it; 0 takes the most likely token each time (greedy decoding).
        top_k: number of most likely tokens to choose from; None is all.
        top_p: choose from the fewest most likely tokens whose probabilities add up to this (nucleus sampling, arXiv
            1904.09751, section 3.1), from 0 to 1.
        min_p: choose from tokens with at least this fraction of the most likely token's probability (arXiv
            2407.01082), from 0 to 1.
        repetition_penalty: logits of tokens that have appeared in the sequence are divided by it where positive, else
            multiplied (CTRL, arXiv 1909.05858, section 4.1); 1 is none.

    Raises:
        UserError: a value is out of range.
    """

    @checked
    def __init__(
        self,
        *,
        temperature: NonNegativeFloat = 1.0,
        top_k: PositiveInt | None = None,
        top_p: Fraction = 1.0,
        min_p: Fraction = 0.0,
        repetition_penalty: PositiveFloat = 1.0,
    ) -> None:
        self.temperature, self.top_k, self.top_p, self.min_p = temperature, top_k, top_p, min_p
        self.repetition_penalty = repetition_penalty

    def next_tokens(self, logits: Tensor, uniform: Tensor, appeared: Tensor | None = None) -> Tensor:
        """The next token of each row, (B,).

        Args:
            logits: (B, V).
            uniform: a random number from 0 to 1 for each row, (B,).
            appeared: which tokens have appeared in each row, (B, V); None for no repetition penalty.
        """
        if self.temperature == 0:
            return self._penalise(logits, appeared).argmax(-1)
        return sample_tokens(self.probabilities(logits, appeared), uniform)

    def probabilities(self, logits: Tensor, appeared: Tensor | None = None) -> Tensor:
        """The distribution that the next token is sampled from, (..., V), in fp32.

        Args:
            logits: (..., V).
            appeared: which tokens have appeared before, (..., V); None for no repetition penalty.
        """
        logits = self._penalise(logits.float(), appeared)
        if self.temperature == 0:
            return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
        logits = logits / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            logits = logits.masked_fill(logits < logits.topk(self.top_k).values[..., -1:], -torch.inf)
        probabilities = logits.softmax(-1)
        if self.top_p < 1:
            probabilities = probabilities.masked_fill(probabilities < self._nucleus_minimum(probabilities), 0.0)
        if self.min_p > 0:
            threshold = self.min_p * probabilities.amax(-1, keepdim=True)
            probabilities = probabilities.masked_fill(probabilities < threshold, 0.0)
        return probabilities / probabilities.sum(-1, keepdim=True)

    def _penalise(self, logits: Tensor, appeared: Tensor | None) -> Tensor:
        if appeared is None:
            return logits
        penalty = self.repetition_penalty
        return torch.where(appeared, torch.where(logits > 0, logits / penalty, logits * penalty), logits)

    def _nucleus_minimum(self, probabilities: Tensor) -> Tensor:
        """The smallest probability in the nucleus: (..., V) -> (..., 1)."""
        descending = probabilities.sort(-1, descending=True).values
        sum_before = descending.cumsum(-1) - descending
        outside = (sum_before >= self.top_p) & (sum_before > 0)
        return descending.masked_fill(outside, torch.inf).amin(-1, keepdim=True)


def sample_tokens(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Tokens by inverse transform sampling: the first at which the cumulative probability exceeds `uniform`.

    Args:
        probabilities: of each token, up to a factor, (..., V).
        uniform: random numbers from 0 to 1, (...).
    """
    cumulative = probabilities.cumsum(-1)
    return torch.searchsorted(cumulative, uniform.unsqueeze(-1) * cumulative[..., -1:], right=True).squeeze(-1)


def uniform_numbers(seeds: Sequence[int], per_token: int, count: int) -> Tensor:
    """Random numbers from 0 to 1, (B, per_token, count), the same on every device.

    Args:
        seeds: one for each row; the row's numbers depend on its own seed alone.
        per_token: how many numbers a token needs.
        count: number of tokens.
    """
    rows = [torch.rand(per_token, count, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows) * BELOW_ONE
