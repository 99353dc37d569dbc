"""Muon: hidden matrices change by orthogonal matrices, all else as AdamW says. Knows no task.

k matrices, n by m each, of which n is the shorter side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from aibig.layers.attention import SelfAttention
from aibig.layers.feed_forward import FeedForward
from aibig.layers.packed import PackedLinear
from aibig.layers.shards import full, local, placed
from aibig.training.precision import WIDE_ON_CPU, cpu_has_bf16

Layout = tuple[
    int, int, int, int
]  # the matrices in a weight: how many down, their height, how many across, their width

UPDATE_RMS = 0.2  # about AdamW's, so that its learning rates and weight decay fit (arXiv 2502.16982, section 2.2)

# Quintics, each optimal after those before it (arXiv 2505.16932, algorithm 1), for singular values from 0.005 to 1, with
# a margin of 2% before each step for rounding; found by Remez' algorithm. They end between 0.47 and 1.53: as good for
# training as five steps of https://kellerjordan.github.io/posts/muon/, measured on characters at width 128.
COEFFICIENTS = ((8.14, -23.0368, 16.3967), (3.8592, -2.7713, 0.5099), (3.1912, -2.3142, 0.4633))

WIDE = 1.5  # times as wide as high: from there on the products by the Gram matrix alone are fewer


class Muon(torch.optim.AdamW):
    """AdamW, but for the groups that are `orthogonal`: Muon (https://kellerjordan.github.io/posts/muon/).

    layouts: the matrices in each weight of those groups, by `layouts_of`. momentum: of their gradients, `nesterov` or
    not. Sharded weights' momentum is gathered for its update, which every rank computes.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        layouts: dict[nn.Parameter, Layout],
        *,
        momentum: float,
        nesterov: bool,
        **settings: Any,
    ) -> None:
        super().__init__(groups, **settings)
        self.layouts, self.momentum, self.nesterov = layouts, momentum, nesterov

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of all groups."""
        groups = self.param_groups
        self.param_groups = [one for one in groups if not one["orthogonal"]]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        self._step_matrices([one for one in groups if one["orthogonal"]])
        return loss

    def _step_matrices(self, groups: list[dict[str, Any]]) -> None:
        """Change the weights that have a gradient.

        Whether to skip the update may be known to the device alone, as `found_inf`, 1 or 0: then the momentum takes
        the gradient's place, which leaves it as it is, and nothing of the update is taken.
        """
        weights = [one for group in groups for one in group["params"] if one.grad is not None]
        if not weights:
            return
        gradients, momenta = [one.grad for one in weights], [self._momentum_of(one) for one in weights]
        found_inf, taken = getattr(self, "found_inf", None), 1.0
        if found_inf is not None:
            taken = 1.0 - found_inf
            for gradient, momentum in zip(map(local, gradients), map(local, momenta), strict=True):
                gradient.copy_(torch.where(found_inf == 0, gradient, momentum))
        torch._foreach_lerp_(momenta, gradients, 1.0 - self.momentum)
        updates = torch._foreach_lerp(gradients, momenta, self.momentum) if self.nesterov else momenta
        changes = self._changes(dict(zip(weights, updates, strict=True)))
        for group in groups:
            own = [one for one in group["params"] if one in changes]
            rate = group["lr"] * taken
            torch._foreach_mul_(own, 1.0 - rate * group["weight_decay"])
            torch._foreach_sub_(own, torch._foreach_mul([changes[one] for one in own], rate))

    def _momentum_of(self, weight: nn.Parameter) -> Tensor:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum: Tensor = state["momentum"]
        return momentum

    def _changes(self, updates: dict[nn.Parameter, Tensor]) -> dict[nn.Parameter, Tensor]:
        """The updates by weight, made orthogonal; matrices of the same shape are one batch."""
        batches: dict[Any, dict[nn.Parameter, Tensor]] = {}
        for weight, update in updates.items():
            matrices = cut(full(update), self.layouts[weight])
            batches.setdefault((matrices.shape[1:], matrices.dtype, matrices.device), {})[weight] = matrices
        changes = {}
        for batch in batches.values():
            result = orthogonalised(torch.cat([*batch.values()]))
            size = result.shape[1] * result.shape[2]
            result = result * (UPDATE_RMS * size**0.5 / _norm(result)).to(result.dtype)
            for weight, matrices in zip(batch, result.split([len(one) for one in batch.values()]), strict=True):
                changes[weight] = placed(joined(matrices, self.layouts[weight]).view(weight.shape), weight)
        return changes


def orthogonalised(matrices: Tensor) -> Tensor:
    """(k, n, m) -> (k, n, m): singular vectors stay, singular values come near 1, but for the very small ones.

    Each step takes X to a X + b G X + c G G X, where G = X X', (n, n). In fp32, wide matrices are multiplied at both
    ends only: what the steps multiply X by is a polynomial of the first G. bf16 is too coarse for that.
    """
    dtype = _dtype_of_products(matrices)
    result = (matrices / _norm(matrices)).to(dtype)
    gram = result @ result.mT
    squared = gram @ gram
    largest = (_norm(squared) ** 0.25).to(dtype)  # the singular values' norm in l^8, so that none is above 1
    result, gram, squared = result / largest, gram / largest**2, squared / largest**4
    by_gram = dtype == torch.float32 and matrices.shape[2] > WIDE * matrices.shape[1]
    total: Tensor | None = None
    for step, (a, b, c) in enumerate(COEFFICIENTS):
        if step:
            squared = gram @ gram
        factor = b * gram + c * squared
        factor.diagonal(dim1=1, dim2=2).add_(a)
        if by_gram:
            total = factor if total is None else factor @ total
        else:
            result = factor @ result
        if step < len(COEFFICIENTS) - 1:
            gram = factor @ (factor @ gram) if by_gram else result @ result.mT
    return (result if total is None else total @ result).to(matrices.dtype)


def layouts_of(model: nn.Module, apart: set[nn.Parameter]) -> dict[nn.Parameter, Layout]:
    """The weights, but for those `apart`, that are matrices or stacks of them, of layers known to multiply by them.

    What is stacked is told apart: queries, keys and values of each head, gates of an LSTM and of SwiGLU, members of
    an ensemble. A convolution's kernel is the matrix (out, all that an output sees).
    """
    found: dict[nn.Parameter, Layout] = {}
    for module in model.modules():  # a layer before its parts
        for weight, layout in _matrices_of(module):
            if weight.requires_grad and weight not in apart and min(layout[1], layout[3]) > 1:
                found.setdefault(weight, layout)
    return found


def _matrices_of(module: nn.Module) -> Iterator[tuple[nn.Parameter, Layout]]:
    match module:
        case SelfAttention():
            weight, size = module.queries_keys_values.weight, module.head_width
            yield weight, (weight.shape[0] // size, size, 1, weight.shape[1])
            yield module.out.weight, (1, module.out.weight.shape[0], module.heads, size)
        case FeedForward() if module.activation == "swiglu":
            weight = module.up.weight
            yield weight, (2, weight.shape[0] // 2, 1, weight.shape[1])
        case nn.RNNBase():
            for name, weight in module.named_parameters():
                gates = weight.shape[0] // module.hidden_size if name.startswith(("weight_ih", "weight_hh")) else 1
                if weight.ndim == 2:
                    yield weight, (gates, weight.shape[0] // gates, 1, weight.shape[1])
        case nn.MultiheadAttention() if module.in_proj_weight is not None:
            weight, size = module.in_proj_weight, module.head_dim
            yield weight, (weight.shape[0] // size, size, 1, weight.shape[1])
        case PackedLinear():
            yield module.weight, (module.members, module.in_features, 1, module.out_features)
        case nn.Linear() | nn.Conv1d() | nn.Conv2d() | nn.Conv3d() if getattr(module, "groups", 1) == 1:
            weight = module.weight
            yield weight, (1, weight.shape[0], 1, weight[0].numel())


def cut(weight: Tensor, layout: Layout) -> Tensor:
    """The matrices in a weight, (k, n, m), all lying on their longer side."""
    down, height, across, width = layout
    matrices = weight.reshape(layout).transpose(1, 2).reshape(down * across, height, width)
    return matrices if height <= width else matrices.mT


def joined(matrices: Tensor, layout: Layout) -> Tensor:
    """What was `cut`, (k, n, m), together again: (down, height, across, width)."""
    down, height, across, width = layout
    upright = matrices if height <= width else matrices.mT
    return upright.reshape(down, across, height, width).transpose(1, 2).contiguous()


def _norm(matrices: Tensor) -> Tensor:
    """Of each matrix, all numbers squared and summed: (k, 1, 1), fp32, never 0."""
    return torch.linalg.vector_norm(matrices, dim=(1, 2), keepdim=True, dtype=torch.float32).clamp(min=1e-30)


def _dtype_of_products(matrices: Tensor) -> torch.dtype:
    """bf16 where the device multiplies it faster, by the rules of `aibig.training.precision`."""
    if matrices.device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    wide = matrices.device.type == "cpu" and matrices.shape[1] >= WIDE_ON_CPU
    return torch.bfloat16 if wide and cpu_has_bf16() else torch.float32
