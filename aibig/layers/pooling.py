"""One vector for a sequence of vectors, without its padding. Knows no model.

B batch, T time, H width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pool(states: Tensor, lengths: Tensor | None, pooling: str) -> Tensor:
    """One vector for each sequence, (B, H).

    Args:
        states: right-padded, (B, T, H).
        lengths: true lengths, (B,); None is T for all.
        pooling: "last", the state at the true end; "mean" or "max" over time, of each channel.
    """
    if lengths is None:
        lengths = torch.full((len(states),), states.shape[1], device=states.device)
    lengths = lengths.to(states.device)
    if pooling == "last":
        return states[torch.arange(len(states), device=states.device), lengths - 1]
    padding = ~sequence_mask(lengths, states.shape[1]).unsqueeze(2)  # (B, T, 1)
    if pooling == "max":
        return states.masked_fill(padding, -torch.inf).amax(1)
    return states.masked_fill(padding, 0.0).sum(1) / lengths.unsqueeze(1).to(states.dtype)


def sequence_mask(lengths: Tensor, time: int) -> Tensor:
    """True where there is a token, False at padding, (B, T).

    Args:
        lengths: true lengths, (B,).
        time: T.
    """
    return torch.arange(time, device=lengths.device) < lengths.unsqueeze(1)
