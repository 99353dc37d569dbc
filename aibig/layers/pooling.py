"""One state for a sequence of states, padding left out.

B batch, T time, H width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Pooling = Literal["last", "mean", "max"]


def pool(states: Tensor, lengths: Tensor | None, how: str) -> Tensor:
    """states (B, T, H) of sequences of true lengths (B,), all of them full without -> (B, H).

    "last": the state at the true end. "mean", "max": over time, of each channel.
    """
    if lengths is None:
        lengths = torch.full((len(states),), states.shape[1], device=states.device)
    lengths = lengths.to(states.device)
    if how == "last":
        return states[torch.arange(len(states), device=states.device), lengths - 1]
    padding = ~is_real(lengths, states.shape[1]).unsqueeze(2)  # (B, T, 1)
    if how == "max":
        return states.masked_fill(padding, -torch.inf).amax(1)
    return states.masked_fill(padding, 0.0).sum(1) / lengths.unsqueeze(1).to(states.dtype)


def is_real(lengths: Tensor, time: int) -> Tensor:
    """Which places hold a token rather than padding: lengths (B,) -> (B, T)."""
    return torch.arange(time, device=lengths.device) < lengths.unsqueeze(1)
