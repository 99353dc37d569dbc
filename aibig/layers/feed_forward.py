"""Fully connected layers. They know no model.

B batch, C channels, H hidden.
"""

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
    """Linear - ReLU (- Dropout) from each width to the next: (B, widths[0]) -> (B, widths[-1]).

    Args:
        widths: of the inputs and of each layer's outputs.
        dropout: probability of dropout after each ReLU; 0 is none.
        members: number of networks of an ensemble; with more than one -> (members, B, widths[-1]).
    """
    layers: list[nn.Module] = []
    for in_features, out_features in pairwise(widths):
        layers += [linear(in_features, out_features, members), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


def linear(in_features: int, out_features: int, members: int = 1) -> nn.Linear | PackedLinear:
    """An nn.Linear, or a PackedLinear for an ensemble.

    Args:
        in_features: width of the inputs.
        out_features: width of the outputs.
        members: number of networks of the ensemble.
    """
    return nn.Linear(in_features, out_features) if members == 1 else PackedLinear(members, in_features, out_features)


class FeedForward(nn.Module):
    """Linear - activation - Linear on each token.

    Args:
        width: C.
        hidden: H, width between the two layers.
        activation: "gelu", "gelu_tanh" (its tanh approximation), "relu_squared" (as good and cheaper: Primer, arXiv
            2109.08668, section 4) or "swiglu", a gated unit (arXiv 2002.05202, eq. 6; its third matrix is part of
            `up_proj`).
        bias: whether the layers have biases.
    """

    def __init__(self, width: int, hidden: int, activation: str, bias: bool = False) -> None:
        super().__init__()
        self.activation = activation
        self.up_proj = nn.Linear(width, 2 * hidden if activation == "swiglu" else hidden, bias)
        self.down_proj = nn.Linear(hidden, width, bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """The layer's outputs, (..., C).

        Args:
            inputs: (..., C).
        """
        return self.down_proj(ACTIVATIONS[self.activation](self.up_proj(inputs)))


class _ReluSquared(torch.autograd.Function):
    """max(0, x)^2 in as few passes over memory as possible: half the time of its two functions."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        """Keeps max(0, x), which is half the derivative."""
        positive = F.relu(inputs)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        """2 max(0, x) times the gradient."""
        (positive,) = ctx.saved_tensors
        return (grad_output * positive).mul_(2)


def relu_squared(inputs: Tensor) -> Tensor:
    """max(0, x)^2. A compiler fuses the plain functions by itself.

    Args:
        inputs: of any shape.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return F.relu(inputs).square()
    return _ReluSquared.apply(inputs)


def swiglu(inputs: Tensor) -> Tensor:
    """SiLU of the first half of the channels times the second half, (..., H).

    Args:
        inputs: (..., 2 H).
    """
    gate, linear = inputs.chunk(2, -1)
    return F.silu(gate) * linear


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu_squared": relu_squared,
    "swiglu": swiglu,
}
