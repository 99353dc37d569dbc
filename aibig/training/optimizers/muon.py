"""Muon: orthogonalized updates for hidden matrices, AdamW for all other parameters. Knows no task.

k matrices of n rows and m columns, n <= m.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from aibig.layers.attention.self_attention import SelfAttention
from aibig.layers.feed_forward import FeedForward
from aibig.layers.packed_linear import PackedLinear
from aibig.layers.utils.dtensor import full_tensor, shard_like, to_local
from aibig.training.devices.precision import cpu_has_bf16

# The matrices that a weight stacks: number below each other, rows of each, number side by side, columns of each.
MatrixLayout = tuple[int, int, int, int]

# Root mean square of an orthogonalized update: about that of AdamW, so that learning rate and weight decay can be
# shared (arXiv 2502.16982, section 2.2).
UPDATE_RMS = 0.2

# Quintic Newton-Schulz steps, each optimal after the previous ones (Polar Express, arXiv 2505.16932, algorithm 1), for
# singular values from 0.005 to 1, with a margin of 2% before each step for rounding; found by Remez' algorithm. They
# end between 0.47 and 1.53. Five steps, which end between 0.84 and 1.16, train no better: validation loss 2.032 against
# 2.031, mean of 2 seeds, after 300 updates of a Transformer of width 128 on tinyshakespeare's characters; two steps are
# worse, 2.054.
NEWTON_SCHULZ_COEFFICIENTS = ((8.14, -23.0368, 16.3967), (3.8592, -2.7713, 0.5099), (3.1912, -2.3142, 0.4633))

GRAM_ASPECT_RATIO = 1.5  # m / n from which products of Gram matrices alone are cheaper
BF16_ROWS_ON_CPU = 64  # n from which bf16 needs a third to two thirds of fp32's time, on CPUs that have it


class Muon(torch.optim.Optimizer):
    """Muon (https://kellerjordan.github.io/posts/muon/) for groups with `layouts`, AdamW for the other groups.

    Every rank gathers the momentum of sharded weights and computes the same update.

    Args:
        groups: parameter groups; `layouts` lists the layout of each parameter (see `matrix_layouts`).
        momentum: decay rate of the average of the hidden matrices' gradients.
        nesterov: use Nesterov momentum.
        betas: AdamW's decay rates of the averages of the gradient and of its square.
        eps: added to AdamW's denominator.
        fused: use AdamW's fused kernel.
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
        self._step_supports_amp_scaling = fused  # torch's flag of an optimizer that uses `found_inf`

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all groups.

        Args:
            closure: function that computes the gradients; None if they are computed.
        """
        if closure is not None:
            with torch.enable_grad():
                closure()
        self._muon_step([group for group in self.param_groups if group["layouts"]])
        for group in self.param_groups:
            if not group["layouts"]:
                self._adamw_step(group)

    def _adamw_step(self, group: dict[str, Any]) -> None:
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        for parameter in parameters:
            if not self.state[parameter]:
                step_device = parameter.device if group["fused"] else "cpu"
                self.state[parameter]["step"] = torch.zeros((), device=step_device)
                self.state[parameter] |= {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
        if parameters:
            names = ("exp_avg", "exp_avg_sq", "step")
            state = {name: [self.state[parameter][name] for parameter in parameters] for name in names}
            adamw(
                parameters,
                [parameter.grad for parameter in parameters],
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

    def _muon_step(self, groups: list[dict[str, Any]]) -> None:
        layouts: dict[Tensor, MatrixLayout] = {}
        updates: dict[Tensor, Tensor] = {}
        for group in groups:
            layouts |= zip(group["params"], group["layouts"], strict=True)
            updates |= self._momentum_updates(group)
        updates = orthogonal_updates(updates, layouts)
        found_inf, taken = getattr(self, "found_inf", None), 1.0
        if found_inf is not None and updates:
            taken = 1.0 - found_inf
            torch._foreach_mul_([*updates.values()], taken)
        for group in groups:
            if weights := [weight for weight in group["params"] if weight in updates]:
                torch._foreach_mul_(weights, 1.0 - taken * group["lr"] * group["weight_decay"])
                torch._foreach_sub_(weights, [updates[weight] for weight in weights], alpha=group["lr"])

    def _momentum_updates(self, group: dict[str, Any]) -> dict[Tensor, Tensor]:
        """Update the momentum buffers. Returns the momentum, or Nesterov momentum, of each weight.

        If `found_inf` is 1, the gradient is replaced by the momentum, which leaves the buffer unchanged; the host need
        not read the flag.
        """
        weights = [weight for weight in group["params"] if weight.grad is not None]
        if not weights:
            return {}
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        gradients = [weight.grad for weight in weights]
        momenta = [self.state[weight]["momentum"] for weight in weights]
        found_inf = getattr(self, "found_inf", None)
        if found_inf is not None:
            for gradient, momentum in zip(map(to_local, gradients), map(to_local, momenta), strict=True):
                gradient.copy_(torch.where(found_inf == 0, gradient, momentum))
        torch._foreach_lerp_(momenta, gradients, 1.0 - group["momentum"])
        updates = torch._foreach_lerp(gradients, momenta, group["momentum"]) if group["nesterov"] else momenta
        return dict(zip(weights, updates, strict=True))


def orthogonal_updates(updates: dict[Tensor, Tensor], layouts: dict[Tensor, MatrixLayout]) -> dict[Tensor, Tensor]:
    """Orthogonalize updates to a root mean square of UPDATE_RMS. Matrices of the same shape are batched.

    Args:
        updates: update of each weight.
        layouts: layout of each weight.

    Returns:
        The orthogonalized update of each weight.
    """
    batches: dict[Any, dict[Tensor, Tensor]] = {}
    for weight, update in updates.items():
        matrices = to_matrices(full_tensor(update), layouts[weight])
        batches.setdefault((matrices.shape[1:], matrices.dtype, matrices.device), {})[weight] = matrices
    orthogonal = {}
    for batch in batches.values():
        stacked = torch.cat([*batch.values()])
        result = orthogonalize(stacked, UPDATE_RMS * stacked.shape[2] ** 0.5)
        for weight, matrices in zip(batch, result.split([len(matrices) for matrices in batch.values()]), strict=True):
            orthogonal[weight] = shard_like(from_matrices(matrices, layouts[weight]).reshape(weight.shape), weight)
    return orthogonal


def orthogonalize(matrices: Tensor, scale: float = 1.0) -> Tensor:
    """Newton-Schulz iteration: sets all singular values, except very small ones, to about `scale`.

    Each step replaces X by a X + b G X + c G G X, where G = X X', (n, n). For wide X the product of the steps'
    polynomials in G is computed, and applied once; bf16 is too imprecise for that.

    Args:
        matrices: (k, n, m).
        scale: target of the singular values.

    Returns:
        The orthogonalized matrices, (k, n, m).
    """
    result = matrices.to(_matmul_dtype(matrices))
    by_gram = result.dtype.itemsize >= 4 and matrices.shape[2] > GRAM_ASPECT_RATIO * matrices.shape[1]
    gram = result @ result.mT  # (k, n, n)
    norm = _norm(gram)
    gram = gram / norm
    squared = gram @ gram
    largest = _norm(squared) ** 0.5  # l^4 norm of the squared singular values, a bound of the largest
    gram, squared, to_unit = gram / largest, squared / largest**2, norm**-0.5 * largest**-0.5  # finite for zeros too
    if not by_gram:
        result = result * to_unit
    product: Tensor | None = None  # of the steps' factors
    for step, (a, b, c) in enumerate(NEWTON_SCHULZ_COEFFICIENTS, 1):
        factor = b * gram + c * squared
        factor.diagonal(dim1=1, dim2=2).add_(a)
        if by_gram:
            product = factor if product is None else factor @ product
        else:
            result = factor @ result
        if step < len(NEWTON_SCHULZ_COEFFICIENTS):
            gram = factor @ (factor @ gram) if by_gram else result @ result.mT
            squared = gram @ gram
    result = result * scale if product is None else (product * (to_unit * scale)) @ result
    return result.to(matrices.dtype)


def matrix_layouts(model: nn.Module, excluded: Container[Tensor]) -> dict[Tensor, MatrixLayout]:
    """The layouts of the weights of linear, attention, recurrent and convolution layers.

    Stacked matrices are orthogonalized separately: queries, keys and values of each head, gates of an LSTM and of
    SwiGLU, members of an ensemble. A convolution's kernel is one matrix, (out, in * kernel size).

    Args:
        model: the model.
        excluded: weights to leave out, such as embeddings and the head.

    Returns:
        Layout by weight.
    """
    layouts: dict[Tensor, MatrixLayout] = {}
    for module in model.modules():  # a layer before its submodules
        for weight, layout in _matrices_of(module):
            if weight.requires_grad and weight not in excluded and min(layout[1], layout[3]) > 1:
                layouts.setdefault(weight, layout)
    return layouts


def _matrices_of(module: nn.Module) -> Iterator[tuple[Tensor, MatrixLayout]]:
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


def _stacked(weight: Tensor, rows: int) -> MatrixLayout:
    """The layout of matrices of `rows` rows below each other."""
    return len(weight) // rows, rows, 1, weight[0].numel()


def to_matrices(weight: Tensor, layout: MatrixLayout) -> Tensor:
    """The matrices in a weight.

    Args:
        weight: unsharded weight.
        layout: layout of the weight.

    Returns:
        Matrices (k, n, m), transposed if they have more rows than columns.
    """
    down, rows, across, columns = layout
    matrices = weight.reshape(layout).transpose(1, 2).reshape(down * across, rows, columns)
    return matrices if rows <= columns else matrices.mT


def from_matrices(matrices: Tensor, layout: MatrixLayout) -> Tensor:
    """The inverse of `to_matrices`.

    Args:
        matrices: (k, n, m).
        layout: layout of the weight.

    Returns:
        The weight in the shape of its layout.
    """
    down, rows, across, columns = layout
    upright = matrices if rows <= columns else matrices.mT
    return upright.reshape(down, across, rows, columns).transpose(1, 2)


def _norm(matrices: Tensor) -> Tensor:
    """Each matrix's Frobenius norm, (k, 1, 1), never 0."""
    return torch.linalg.vector_norm(matrices, dim=(1, 2), keepdim=True).clamp(min=1e-30)


def _matmul_dtype(matrices: Tensor) -> torch.dtype:
    """bf16 where the device is faster with it; else the matrices' dtype."""
    bf16 = matrices.shape[1] >= BF16_ROWS_ON_CPU and cpu_has_bf16()
    if matrices.device.type == "cuda":
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if bf16 and matrices.device.type in ("cpu", "cuda") else matrices.dtype
