"""How the next token is chosen from its scores. Knows no model.

B batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aibig.config.settings import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, checked

BELOW_ONE = 1 - 2**-20  # a draw times a sum stays below the sum, rounded to 24 bits as it is


class Sampling:
    """Which tokens may come next, and how likely; applied in this order, and all ties at a border stay.

    repetition_penalty: tokens that were seen get their logits divided by it if positive, else multiplied (CTRL,
    arXiv 1909.05858, section 4.1). temperature: logits are divided by it; 0 takes the likeliest token each time.
    top_k: so many likeliest tokens only. top_p: the fewest likeliest tokens that together are so probable (arXiv
    1904.09751, section 3.1). min_p: only tokens so probable in proportion to the likeliest (arXiv 2407.01082).

    Raises UserError for values out of range.
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

    def choose(self, logits: Tensor, draws: Tensor, seen: Tensor | None = None) -> Tensor:
        """The next token of each row: logits (B, V), draws (B,) from 0 to 1, seen (B, V) or None -> (B,)."""
        if self.temperature == 0:
            return self._penalised(logits, seen).argmax(-1)
        return pick(self.probabilities(logits, seen), draws)

    def probabilities(self, logits: Tensor, seen: Tensor | None = None) -> Tensor:
        """The distribution that is drawn from: (..., V) -> (..., V), in fp32. seen (..., V): which tokens were."""
        logits = self._penalised(logits.float(), seen)
        if self.temperature == 0:
            return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
        logits = logits / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            logits = logits.masked_fill(logits < logits.topk(self.top_k).values[..., -1:], -torch.inf)
        likely = logits.softmax(-1)
        if self.top_p < 1:
            likely = likely.masked_fill(likely < self._least(likely), 0.0)
        if self.min_p > 0:
            likely = likely.masked_fill(likely < self.min_p * likely.amax(-1, keepdim=True), 0.0)
        return likely / likely.sum(-1, keepdim=True)

    def _penalised(self, logits: Tensor, seen: Tensor | None) -> Tensor:
        if seen is None:
            return logits
        penalty = self.repetition_penalty
        return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)

    def _least(self, likely: Tensor) -> Tensor:
        """The smallest probability in the nucleus: (..., V) -> (..., 1)."""
        ordered = likely.sort(-1, descending=True).values
        before = ordered.cumsum(-1) - ordered
        outside = (before >= self.top_p) & (before > 0)
        return ordered.masked_fill(outside, torch.inf).amin(-1, keepdim=True)


def pick(likely: Tensor, draws: Tensor) -> Tensor:
    """The token at which the summed probabilities (..., V), however scaled, exceed the draws (...): (...)."""
    summed = likely.cumsum(-1)
    return torch.searchsorted(summed, draws.unsqueeze(-1) * summed[..., -1:], right=True).squeeze(-1)


def draws_of(seeds: Sequence[int], kinds: int, count: int) -> Tensor:
    """Numbers from 0 to 1, (B, kinds, count), each row's from its own seed alone, the same on every device."""
    rows = [torch.rand(kinds, count, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows) * BELOW_ONE
