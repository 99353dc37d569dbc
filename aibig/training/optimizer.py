"""Optimizers: each makes a function model -> torch optimizer. Knows no task.

Weights of two and more dimensions decay, biases and norms do not; what is frozen is left out. A model's
`learning_rate_factors` (by parameter name) multiply the learning rate. Where the parameters live on a device with a
fused kernel, that kernel is used: it also skips a step on the device when told of a non-finite gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from aibig.layers.shards import is_sharded
from aibig.settings import Fraction, NonNegativeFloat, PositiveFloat

OptimizerMaker = Callable[[nn.Module], torch.optim.Optimizer]

FUSED_DEVICES = {"cpu", "cuda"}


def sgd(
    *,
    lr: PositiveFloat = 0.1,
    momentum: Fraction = 0.9,
    weight_decay: NonNegativeFloat = 0.0,
    nesterov: bool = False,
) -> OptimizerMaker:
    """Stochastic gradient descent with momentum (torch.optim.SGD)."""
    return _maker(torch.optim.SGD, weight_decay, lr=lr, momentum=momentum, nesterov=nesterov)


def adam(
    *,
    lr: PositiveFloat = 1e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: PositiveFloat = 1e-8,
) -> OptimizerMaker:
    """Adam (arXiv 1412.6980, algorithm 1)."""
    return _maker(torch.optim.Adam, 0.0, lr=lr, betas=betas, eps=eps)


def adamw(
    *,
    lr: PositiveFloat = 1e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegativeFloat = 0.01,
) -> OptimizerMaker:
    """Adam with decoupled weight decay (arXiv 1711.05101, algorithm 2)."""
    return _maker(torch.optim.AdamW, weight_decay, lr=lr, betas=betas, eps=eps)


def _maker(kind: type[torch.optim.Optimizer], weight_decay: float, **settings: Any) -> OptimizerMaker:
    def make(model: nn.Module) -> torch.optim.Optimizer:
        parameters = [one for one in model.parameters() if one.requires_grad]
        fused = all(one.device.type in FUSED_DEVICES for one in parameters)
        if kind is torch.optim.SGD and is_sharded(model):  # no such kernel, as of torch 2.15
            fused = False
        return kind(_groups(model, weight_decay, settings["lr"]), fused=fused, **settings)  # type: ignore[call-arg]

    return make


def _groups(model: nn.Module, weight_decay: float, lr: float) -> list[dict[str, Any]]:
    """Parameters that decay and are updated alike; first those of the full learning rate, and of these the matrices."""
    factors: dict[str, float] = getattr(model, "learning_rate_factors", {})
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, one in model.named_parameters():
        if one.requires_grad:
            groups.setdefault((factors.get(name, 1.0), weight_decay if one.ndim >= 2 else 0.0), []).append(one)
    return [
        {"params": groups[factor, decay], "lr": lr * factor, "weight_decay": decay}
        for factor, decay in sorted(groups, reverse=True)
    ]
