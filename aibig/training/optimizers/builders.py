"""Optimizers: each function returns a function model -> torch optimizer. Knows no task.

Weight decay applies to weights of two and more dimensions, not to biases and norms; frozen parameters are left out. A
model's `learning_rate_factors` (by parameter name) multiply the learning rate. The fused kernel is used where the
device has one: it can also skip a step on the device, by `found_inf`.
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
        weight_decay: multiple of the weight that is added to its gradient (L2 penalty).
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
        weight_decay: decoupled decay: each update subtracts lr * weight_decay * weight.
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
    """Muon for hidden matrices, AdamW for embeddings, the head, biases and norms (see `Muon`).

    Args:
        lr: learning rate of the hidden matrices.
        adamw_lr: learning rate of all other parameters; None: `lr`.
        embedding_lr: learning rate of embeddings, and of a head that is tied to one; None: `adamw_lr`.
        head_lr: learning rate of the head; None: `adamw_lr`.
        momentum: decay rate of the average of the hidden matrices' gradients.
        nesterov: use Nesterov momentum.
        betas: AdamW's decay rates of the averages of the gradient and of its square.
        eps: added to AdamW's denominator.
        weight_decay: decoupled decay: each update subtracts lr * weight_decay * weight.
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
        if optimizer_class is torch.optim.SGD and is_sharded(model):  # no fused kernel for it, as of torch 2.15
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
    """The head that the model's registry entry names; without one, the last linear layer."""
    registered = getattr(model, "registered", None)
    path = models.entry(registered["name"]).head if registered else ""
    if path:
        return model.get_submodule(path)
    linear_layers = [module for module in model.modules() if isinstance(module, nn.Linear | PackedLinear)]
    return linear_layers[-1] if linear_layers else nn.Identity()
