"""Muon: hidden matrices change by orthogonal matrices, all else as AdamW says. Knows no task.

k matrices, n by m each, of which n is the shorter side.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from aibig.layers.attention.self_attention import SelfAttention
from aibig.layers.dtensor import full, local, placed
from aibig.layers.feed_forward import FeedForward
from aibig.layers.packed_linear import PackedLinear
from aibig.training.devices.precision import cpu_has_bf16

Layout = tuple[int, int, int, int]  # the matrices in a weight: how many down, of what height, across, of what width

# Root mean square of an orthogonal update. It is about AdamW's, so that learning rate and weight decay can be the same
# (arXiv 2502.16982, section 2.2).
UPDATE_RMS = 0.2

# Quintics, each optimal after those before it (arXiv 2505.16932, algorithm 1), for singular values from 0.005 to 1,
# with a margin of 2% before each step for rounding; found by Remez' algorithm. They end between 0.47 and 1.53. Five
# steps, which end between 0.84 and 1.16, train no better: validation loss 2.032 against 2.031, mean of 2 seeds, after
# 300 updates of a Transformer of width 128 on tinyshakespeare's characters; two steps are worse, 2.054.
COEFFICIENTS = ((8.14, -23.0368, 16.3967), (3.8592, -2.7713, 0.5099), (3.1912, -2.3142, 0.4633))

WIDE = 1.5  # times as wide as high: from there on the products by the Gram matrix alone are fewer
HIGH_ON_CPU = 64  # rows: from there on bf16 takes a third to two thirds of fp32's time, where a CPU has it


class Muon(torch.optim.Optimizer):
    """Muon (https://kellerjordan.github.io/posts/muon/) for the groups that have `layouts`, AdamW for the others.

    layouts: a list, of each parameter of the group the matrices in it, by `layouts_of`. momentum: of their gradients,
    `nesterov` or not. betas, eps: AdamW's, which has a `fused` kernel or not. Sharded weights' momentum is gathered for
    its update, which every rank computes.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        momentum: float,
        nesterov: bool,
        betas: tuple[float, float],
        eps: float,
        fused: bool,
    ) -> None:
        settings = {"momentum": momentum, "nesterov": nesterov, "betas": betas, "eps": eps, "fused": fused}
        super().__init__(groups, settings | {"layouts": None})
        self._step_supports_amp_scaling = fused  # of torch's: whether `found_inf` is honoured

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of all groups. closure: computes the gradients, if they are not there."""
        if closure is not None:
            with torch.enable_grad():
                closure()
        self._step_matrices([one for one in self.param_groups if one["layouts"]])
        for group in self.param_groups:
            if not group["layouts"]:
                self._step_others(group)

    def _step_others(self, group: dict[str, Any]) -> None:
        weights = [one for one in group["params"] if one.grad is not None]
        for one in weights:
            if not self.state[one]:
                counted_on = one.device if group["fused"] else "cpu"
                self.state[one]["step"] = torch.zeros((), device=counted_on)
                self.state[one] |= {name: torch.zeros_like(one) for name in ("exp_avg", "exp_avg_sq")}
        if weights:
            state = {name: [self.state[one][name] for one in weights] for name in ("exp_avg", "exp_avg_sq", "step")}
            adamw(
                weights,
                [one.grad for one in weights],
                state["exp_avg"],
                state["exp_avg_sq"],
                [],
                state["step"],
                fused=group["fused"],
                found_inf=getattr(self, "found_inf", None),
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )

    def _step_matrices(self, groups: list[dict[str, Any]]) -> None:
        layouts: dict[Tensor, Layout] = {}
        updates: dict[Tensor, Tensor] = {}
        for group in groups:
            layouts |= zip(group["params"], group["layouts"], strict=True)
            updates |= self._updates(group)
        changes = orthogonal_changes(updates, layouts)
        found_inf, taken = getattr(self, "found_inf", None), 1.0
        if found_inf is not None and changes:
            taken = 1.0 - found_inf
            torch._foreach_mul_([*changes.values()], taken)
        for group in groups:
            if own := [one for one in group["params"] if one in changes]:
                torch._foreach_mul_(own, 1.0 - taken * group["lr"] * group["weight_decay"])
                torch._foreach_sub_(own, [changes[one] for one in own], alpha=group["lr"])

    def _updates(self, group: dict[str, Any]) -> dict[Tensor, Tensor]:
        """By weight, the momentum of its gradients, which is moved on.

        Whether to skip the update may be known to the device alone, as `found_inf`, 1 or 0: the gradient, which may
        not be finite, then becomes the momentum, and that moves nowhere.
        """
        weights = [one for one in group["params"] if one.grad is not None]
        if not weights:
            return {}
        for one in weights:
            if not self.state[one]:
                self.state[one]["momentum"] = torch.zeros_like(one)
        gradients, momenta = [one.grad for one in weights], [self.state[one]["momentum"] for one in weights]
        found_inf = getattr(self, "found_inf", None)
        if found_inf is not None:
            for gradient, momentum in zip(map(local, gradients), map(local, momenta), strict=True):
                gradient.copy_(torch.where(found_inf == 0, gradient, momentum))
        torch._foreach_lerp_(momenta, gradients, 1.0 - group["momentum"])
        updates = torch._foreach_lerp(gradients, momenta, group["momentum"]) if group["nesterov"] else momenta
        return dict(zip(weights, updates, strict=True))


def orthogonal_changes(updates: dict[Tensor, Tensor], layouts: dict[Tensor, Layout]) -> dict[Tensor, Tensor]:
    """By weight, its update as orthogonal matrices of UPDATE_RMS; those of one shape are computed in one batch."""
    batches: dict[Any, dict[Tensor, Tensor]] = {}
    for weight, update in updates.items():
        matrices = cut(full(update), layouts[weight])
        batches.setdefault((matrices.shape[1:], matrices.dtype, matrices.device), {})[weight] = matrices
    changes = {}
    for batch in batches.values():
        stacked = torch.cat([*batch.values()])
        result = orthogonalised(stacked, UPDATE_RMS * stacked.shape[2] ** 0.5)
        for weight, matrices in zip(batch, result.split([len(one) for one in batch.values()]), strict=True):
            changes[weight] = placed(joined(matrices, layouts[weight]).reshape(weight.shape), weight)
    return changes


def orthogonalised(matrices: Tensor, size: float = 1.0) -> Tensor:
    """(k, n, m) -> (k, n, m): singular vectors stay, singular values come near `size`, but for the very small ones.

    Each step takes X to a X + b G X + c G G X, where G = X X', (n, n). Wide matrices are multiplied at both ends only,
    since what the steps multiply X by is a polynomial of the first G; bf16 is too coarse for that.
    """
    result = matrices.to(_dtype_of_products(matrices))
    by_gram = result.dtype.itemsize >= 4 and matrices.shape[2] > WIDE * matrices.shape[1]
    gram = result @ result.mT  # (k, n, n)
    length = _norm(gram)
    gram = gram / length
    squared = gram @ gram
    largest = _norm(squared) ** 0.5  # the squared singular values' norm in l^4, so that none is above 1
    gram, squared, scale = gram / largest, squared / largest**2, length**-0.5 * largest**-0.5  # of zeros: finite
    if not by_gram:
        result = result * scale
    total: Tensor | None = None
    for step, (a, b, c) in enumerate(COEFFICIENTS, 1):
        factor = b * gram + c * squared
        factor.diagonal(dim1=1, dim2=2).add_(a)
        if by_gram:
            total = factor if total is None else factor @ total
        else:
            result = factor @ result
        if step < len(COEFFICIENTS):
            gram = factor @ (factor @ gram) if by_gram else result @ result.mT
            squared = gram @ gram
    result = result * size if total is None else (total * (scale * size)) @ result
    return result.to(matrices.dtype)


def layouts_of(model: nn.Module, apart: Container[Tensor]) -> dict[Tensor, Layout]:
    """The weights, but for those `apart`, that are matrices or stacks of them, of layers known to multiply by them.

    What is stacked is told apart: queries, keys and values of each head, gates of an LSTM and of SwiGLU, members of
    an ensemble. A convolution's kernel is the matrix (out, all that an output sees).
    """
    found: dict[Tensor, Layout] = {}
    for module in model.modules():  # a layer before its parts
        for weight, layout in _matrices_of(module):
            if weight.requires_grad and weight not in apart and min(layout[1], layout[3]) > 1:
                found.setdefault(weight, layout)
    return found


def _matrices_of(module: nn.Module) -> Iterator[tuple[Tensor, Layout]]:
    match module:
        case SelfAttention():
            yield module.qkv_proj.weight, _stacked(module.qkv_proj.weight, module.head_width)
            out = module.out_proj.weight
            yield out, (1, out.shape[0], module.heads, module.head_width)
        case nn.MultiheadAttention() if module.in_proj_weight is not None:
            yield module.in_proj_weight, _stacked(module.in_proj_weight, module.head_dim)
        case FeedForward() if module.activation == "swiglu":
            yield module.up_proj.weight, _stacked(module.up_proj.weight, module.down_proj.in_features)
        case nn.RNNBase():
            for name, weight in module.named_parameters():
                if name.startswith(("weight_ih", "weight_hh")):
                    yield weight, _stacked(weight, module.hidden_size)
                elif name.startswith("weight_hr"):
                    yield weight, _stacked(weight, len(weight))
        case PackedLinear():
            yield module.weight, (module.members, module.in_features, 1, module.out_features)
        case nn.Linear():
            yield module.weight, _stacked(module.weight, len(module.weight))
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d() if module.groups == 1:
            yield module.weight, _stacked(module.weight, len(module.weight))


def _stacked(weight: Tensor, height: int) -> Layout:
    """As many matrices of `height` as there are, one below the other."""
    return len(weight) // height, height, 1, weight[0].numel()


def cut(weight: Tensor, layout: Layout) -> Tensor:
    """The matrices in a weight, (k, n, m), all lying on their longer side."""
    down, height, across, width = layout
    matrices = weight.reshape(layout).transpose(1, 2).reshape(down * across, height, width)
    return matrices if height <= width else matrices.mT


def joined(matrices: Tensor, layout: Layout) -> Tensor:
    """What was `cut`, (k, n, m), together again: (down, height, across, width)."""
    down, height, across, width = layout
    upright = matrices if height <= width else matrices.mT
    return upright.reshape(down, across, height, width).transpose(1, 2)


def _norm(matrices: Tensor) -> Tensor:
    """Each matrix's Frobenius norm, (k, 1, 1), never 0."""
    return torch.linalg.vector_norm(matrices, dim=(1, 2), keepdim=True).clamp(min=1e-30)


def _dtype_of_products(matrices: Tensor) -> torch.dtype:
    """bf16 where the device is faster with it; else their own."""
    bf16 = matrices.shape[1] >= HIGH_ON_CPU and cpu_has_bf16()
    if matrices.device.type == "cuda":
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if bf16 and matrices.device.type in ("cpu", "cuda") else matrices.dtype
