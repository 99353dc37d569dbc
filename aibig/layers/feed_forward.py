"""Fully connected layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aibig.layers.packed_linear import PackedLinear


def hidden_layers(widths: Sequence[int], dropout: float = 0.0, members: int = 1) -> nn.Sequential:
    """Linear - ReLU (- Dropout) for each pair of neighbours in `widths`: (B, widths[0]) -> (B, widths[-1]).

    With more members than one: -> (members, B, widths[-1]).
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [linear(before, after, members), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


def linear(in_features: int, out_features: int, members: int = 1) -> nn.Linear | PackedLinear:
    """An nn.Linear, or as many as there are members, packed."""
    return nn.Linear(in_features, out_features) if members == 1 else PackedLinear(members, in_features, out_features)


class FeedForward(nn.Module):
    """Linear - activation - Linear on each token: (..., C) -> (..., C).

    activation: "gelu", "gelu_tanh" (its approximation by tanh), "relu_squared" (as good and cheaper: Primer, arXiv
    2109.08668, section 4) or "swiglu", a product with a gate (arXiv 2002.05202, eq. 6; it has a third matrix, in `up`).
    """

    def __init__(self, width: int, hidden: int, activation: str, bias: bool = False) -> None:
        super().__init__()
        self.activation = activation
        self.up_proj = nn.Linear(width, 2 * hidden if activation == "swiglu" else hidden, bias)
        self.down_proj = nn.Linear(hidden, width, bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return self.down_proj(ACTIVATIONS[self.activation](self.up_proj(inputs)))


class ReluSquared(torch.autograd.Function):
    """max(0, x)^2 in as few passes over memory as can be: half the time of the two functions it is made of."""

    @staticmethod
    def forward(context: Any, raised: Tensor) -> Tensor:
        """Keeps max(0, x), which is half the derivative."""
        positive = F.relu(raised)
        context.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        """2 max(0, x) times the gradient."""
        (positive,) = context.saved_tensors
        return (gradient * positive).mul_(2)


def relu_squared(raised: Tensor) -> Tensor:
    """max(0, x)^2. A compiler fuses the plain functions by itself."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return F.relu(raised).square()
    return ReluSquared.apply(raised)


def swiglu(raised: Tensor) -> Tensor:
    """(..., 2 H), gates before what they let through -> (..., H)."""
    gate, passed = raised.chunk(2, -1)
    return F.silu(gate) * passed


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu_squared": relu_squared,
    "swiglu": swiglu,
}
