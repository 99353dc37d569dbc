"""Optimizers: each function returns a function model -> torch optimizer. Knows no task.

Weights of two and more dimensions decay, biases and norms do not; frozen parameters are left out. A model's
`learning_rate_factors` (by parameter name) multiply the learning rate. Where the parameters are on a device with a
fused kernel, that kernel is used: it can also skip a step on the device, by `found_inf`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from aibig.config.registry import models
from aibig.config.settings import Fraction, NonNegativeFloat, PositiveFloat
from aibig.layers.packed_linear import PackedLinear
from aibig.layers.utils.dtensor import is_sharded

OptimizerMaker = Callable[[nn.Module], torch.optim.Optimizer]

FUSED_DEVICES = {"cpu", "cuda"}


def sgd(
    *,
    lr: PositiveFloat = 0.1,
    momentum: Fraction = 0.9,
    weight_decay: NonNegativeFloat = 0.0,
    nesterov: bool = False,
) -> OptimizerMaker:
    """Stochastic gradient descent with momentum (torch.optim.SGD).

    Args:
        lr: learning rate.
        momentum: fraction of the last update that is added to the next one.
        weight_decay: added to the gradient, as a multiple of the weight.
        nesterov: use Nesterov momentum.
    """
    return _maker(torch.optim.SGD, weight_decay, lr=lr, momentum=momentum, nesterov=nesterov)


def adam(
    *,
    lr: PositiveFloat = 1e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: PositiveFloat = 1e-8,
) -> OptimizerMaker:
    """Adam (arXiv 1412.6980, algorithm 1).

    Args:
        lr: learning rate.
        betas: decay rates of the averages of the gradient and of its square.
        eps: added to the denominator.
    """
    return _maker(torch.optim.Adam, 0.0, lr=lr, betas=betas, eps=eps)


def adamw(
    *,
    lr: PositiveFloat = 1e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegativeFloat = 0.01,
) -> OptimizerMaker:
    """Adam with decoupled weight decay (arXiv 1711.05101, algorithm 2).

    Args:
        lr: learning rate.
        betas: decay rates of the averages of the gradient and of its square.
        eps: added to the denominator.
        weight_decay: fraction of a weight that each update takes off, times the learning rate.
    """
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

    Args:
        lr: learning rate of the hidden matrices.
        adamw_lr: learning rate of all other parameters; None for `lr`.
        embedding_lr: learning rate of embeddings, a head tied to one among them; None for `adamw_lr`.
        head_lr: learning rate of the head; None for `adamw_lr`.
        momentum: decay rate of the average of the hidden matrices' gradients.
        nesterov: use Nesterov momentum.
        betas: AdamW's decay rates of the averages of the gradient and of its square.
        eps: added to AdamW's denominator.
        weight_decay: fraction of a weight that each update takes off, times the learning rate.
    """

    def make(model: nn.Module) -> torch.optim.Optimizer:
        from aibig.training.optimizers.muon import Muon, matrix_layouts

        other_lr = adamw_lr or lr
        excluded: dict[Tensor, float] = dict.fromkeys(_head(model).parameters(), head_lr or other_lr)
        embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
        for embedding in embeddings:
            excluded |= dict.fromkeys(embedding.parameters(), embedding_lr or other_lr)
        layouts = matrix_layouts(model, excluded)
        others = [parameter for parameter in model.parameters() if parameter not in layouts]
        matrix_groups = _groups(model, weight_decay, dict.fromkeys(layouts, lr))
        for group in matrix_groups:
            group["layouts"] = [layouts[weight] for weight in group["params"]]
        groups = matrix_groups + _groups(model, weight_decay, dict.fromkeys(others, other_lr) | excluded)
        settings: dict[str, Any] = {"betas": betas, "eps": eps, "fused": _has_fused_kernel(model.parameters())}
        return Muon(groups, momentum=momentum, nesterov=nesterov, **settings)

    return make


def _maker(optimizer_class: type[torch.optim.Optimizer], weight_decay: float, **settings: Any) -> OptimizerMaker:
    def make(model: nn.Module) -> torch.optim.Optimizer:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        fused = _has_fused_kernel(parameters)
        if optimizer_class is torch.optim.SGD and is_sharded(model):  # no such kernel, as of torch 2.15
            fused = False
        groups = _groups(model, weight_decay, dict.fromkeys(parameters, settings["lr"]))
        return optimizer_class(groups, fused=fused, **settings)  # type: ignore[call-arg]

    return make


def _has_fused_kernel(parameters: Iterable[nn.Parameter]) -> bool:
    return all(parameter.device.type in FUSED_DEVICES for parameter in parameters)


def _groups(model: nn.Module, weight_decay: float, rates: Mapping[Any, float]) -> list[dict[str, Any]]:
    """Parameter groups of the parameters in `rates`: the highest learning rate first, matrices first."""
    factors: dict[str, float] = getattr(model, "learning_rate_factors", {})
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter in rates:
            rate, decay = rates[parameter] * factors.get(name, 1.0), weight_decay if parameter.ndim >= 2 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
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
    linear_layers = [module for module in model.modules() if isinstance(module, nn.Linear | PackedLinear)]
    return linear_layers[-1] if linear_layers else nn.Identity()
