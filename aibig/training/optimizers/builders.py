"""Optimizers: each makes a function model -> torch optimizer. Knows no task.

Weights of two and more dimensions decay, biases and norms do not; what is frozen is left out. A model's
`learning_rate_factors` (by parameter name) multiply the learning rate. Where the parameters live on a device with a
fused kernel, that kernel is used: it also skips a step on the device when told of a non-finite gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from aibig.config.registry import models
from aibig.config.settings import Fraction, NonNegativeFloat, PositiveFloat
from aibig.layers.dtensor import is_sharded
from aibig.layers.packed_linear import PackedLinear

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


def muon(
    *,
    lr: PositiveFloat = 1e-3,
    adamw_lr: PositiveFloat | None = None,
    embedding_lr: PositiveFloat | None = None,
    head_lr: PositiveFloat | None = None,
    momentum: Fraction = 0.95,
    nesterov: bool = True,
    betas: tuple[Fraction, Fraction] = (0.9, 0.95),
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegativeFloat = 0.1,
) -> OptimizerMaker:
    """Muon for hidden matrices, AdamW for embeddings, the head and all that is no matrix (see `Muon`).

    lr: of the matrices; `adamw_lr` of the rest, by default the same. embedding_lr, head_lr: by default `adamw_lr`; a
    head tied to an embedding is one. momentum: of the matrices, betas and eps: of the rest.
    """

    def make(model: nn.Module) -> torch.optim.Optimizer:
        from aibig.training.optimizers.muon import Muon, layouts_of

        rest = adamw_lr or lr
        embeddings = [one for part in model.modules() if isinstance(part, nn.Embedding) for one in part.parameters()]
        apart: dict[Tensor, float] = dict.fromkeys(_head(model).parameters(), head_lr or rest)
        apart |= dict.fromkeys(embeddings, embedding_lr or rest)
        layouts = layouts_of(model, apart)
        others = dict.fromkeys((one for one in model.parameters() if one not in layouts), rest) | apart
        matrices = _groups(model, weight_decay, dict.fromkeys(layouts, lr))
        for group in matrices:
            group["layouts"] = [layouts[one] for one in group["params"]]
        settings: dict[str, Any] = {"betas": betas, "eps": eps, "fused": _has_kernel(model.parameters())}
        groups = matrices + _groups(model, weight_decay, others)
        return Muon(groups, momentum=momentum, nesterov=nesterov, **settings)

    return make


def _maker(kind: type[torch.optim.Optimizer], weight_decay: float, **settings: Any) -> OptimizerMaker:
    def make(model: nn.Module) -> torch.optim.Optimizer:
        parameters = [one for one in model.parameters() if one.requires_grad]
        fused = _has_kernel(parameters)
        if kind is torch.optim.SGD and is_sharded(model):  # no such kernel, as of torch 2.15
            fused = False
        groups = _groups(model, weight_decay, dict.fromkeys(parameters, settings["lr"]))
        return kind(groups, fused=fused, **settings)  # type: ignore[call-arg]

    return make


def _has_kernel(parameters: Iterable[nn.Parameter]) -> bool:
    return all(one.device.type in FUSED_DEVICES for one in parameters)


def _groups(model: nn.Module, weight_decay: float, rates: Mapping[Any, float]) -> list[dict[str, Any]]:
    """Of the parameters in `rates`: those that decay and are updated alike; the highest rate first, matrices first."""
    factors: dict[str, float] = getattr(model, "learning_rate_factors", {})
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, one in model.named_parameters():
        if one.requires_grad and one in rates:
            rate, decay = rates[one] * factors.get(name, 1.0), weight_decay if one.ndim >= 2 else 0.0
            groups.setdefault((rate, decay), []).append(one)
    return [
        {"params": groups[rate, decay], "lr": rate, "weight_decay": decay}
        for rate, decay in sorted(groups, reverse=True)
    ]


def _head(model: nn.Module) -> nn.Module:
    """What the model's row in the registry names as its head; without one, its last linear layer."""
    registered = getattr(model, "registered", None)
    path = models.entry(registered["name"]).head if registered else ""
    if path:
        return model.get_submodule(path)
    linear = [one for one in model.modules() if isinstance(one, nn.Linear | PackedLinear)]
    return linear[-1] if linear else nn.Identity()
