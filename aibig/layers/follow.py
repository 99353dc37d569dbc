"""One module's weights trailing another's of the same make: a target network, a moving average."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def follow(follower: nn.Module, model: nn.Module, fraction: float = 1.0) -> None:
    """Move `follower`'s parameters by `fraction` of the way to `model`'s; buffers are copied.

    Both plain, or sharded alike.
    """
    ours: list[Tensor] = list(follower.parameters())
    theirs: list[Tensor] = list(model.parameters())
    if fraction == 1.0:
        torch._foreach_copy_(ours, theirs)
    else:
        torch._foreach_lerp_(ours, theirs, fraction)
    for own, other in zip(follower.buffers(), model.buffers(), strict=True):
        own.copy_(other)
