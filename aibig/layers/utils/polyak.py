"""Polyak averaging of one module's weights towards another's: a target network, a moving average. Knows no model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from aibig.layers.utils.dtensor import to_local


def polyak_update(target_network: nn.Module, model: nn.Module, tau: float = 1.0) -> None:
    """Move a target network's parameters towards a model's; buffers are copied.

    Args:
        target_network: plain, or sharded as the model is.
        model: of the same architecture.
        tau: fraction of the way, from 0 to 1 (a copy).
    """
    polyak_updater(target_network, model)(tau)


def polyak_updater(target_network: nn.Module, model: nn.Module) -> Callable[[float], None]:
    """`polyak_update` for repeated use: a function of tau that looks up the tensors only once.

    Made after both modules are moved to their device and sharded, which changes their parameters.

    Args:
        target_network: see `polyak_update`.
        model: see `polyak_update`.
    """
    targets, sources = ([to_local(p.detach()) for p in module.parameters()] for module in (target_network, model))
    buffers = list(zip(target_network.buffers(), model.buffers(), strict=True))

    @torch.no_grad()
    def update(tau: float) -> None:
        if tau == 1.0:
            torch._foreach_copy_(targets, sources)
        else:
            torch._foreach_lerp_(targets, sources, tau)
        for target, source in buffers:
            target.copy_(source)

    return update
