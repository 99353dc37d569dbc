"""What the loss of each token is made of, from the states before a head. Knows no model and no mean.

N tokens in any shape, C channels, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class TokenScores(NamedTuple):
    """What a loss is made of, token by token, in fp32: so logits (N, V) need not stand in memory.

    log_normalizer (N): the logarithm of the summed exponentials of the logits. target_logit (N): of the target.
    mean_logit (N): over the vocabulary. states: outputs (N, C) that a loss may hold down, (raw, dropped).
    """

    log_normalizer: Tensor
    target_logit: Tensor
    mean_logit: Tensor
    states: tuple[Tensor, ...] | None = None

    @property
    def nats(self) -> Tensor:
        """The cross-entropy (N) of each target."""
        return self.log_normalizer - self.target_logit


def token_scores(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, *, cap: float | None = None
) -> TokenScores:
    """hidden (N, C), weight (V, C), bias (V), targets (N) -> TokenScores; cap: see `capped`."""
    logits = capped(F.linear(hidden, weight, bias), cap).float()
    target_logit = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return TokenScores(torch.logsumexp(logits, -1), target_logit, logits.mean(-1))


def capped(logits: Tensor, cap: float | None) -> Tensor:
    """cap * tanh(logits / cap): none is larger than `cap` (Gemma 2, arXiv 2408.00118, section 2)."""
    return logits if cap is None else cap * torch.tanh(logits / cap)
