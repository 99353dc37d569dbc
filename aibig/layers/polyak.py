"""One module's weights trailing another's of the same make: a target network, a moving average."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from aibig.layers.dtensor import local


def follow(target_network: nn.Module, model: nn.Module, fraction: float = 1.0) -> None:
    """Move `target_network`'s parameters by `fraction` of the way to `model`'s; buffers are copied.

    Both plain, or sharded alike.
    """
    trail(target_network, model)(fraction)


def trail(target_network: nn.Module, model: nn.Module) -> Callable[[float], None]:
    """`follow` for every update: a function of the fraction that has found the tensors once.

    Made after both are placed and sharded, which changes the parameters.
    """
    ours, theirs = ([local(one.detach()) for one in module.parameters()] for module in (target_network, model))
    buffers = list(zip(target_network.buffers(), model.buffers(), strict=True))

    @torch.no_grad()
    def move(fraction: float) -> None:
        if fraction == 1.0:
            torch._foreach_copy_(ours, theirs)
        else:
            torch._foreach_lerp_(ours, theirs, fraction)
        for own, other in buffers:
            own.copy_(other)

    return move
