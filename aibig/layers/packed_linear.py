"""The linear layers of an ensemble's members, in one batched product. Knows no model.

M members, B batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """Independent nn.Linear layers in one batched product, each initialised as nn.Linear is.

    Args:
        members: M.
        in_features: width of the inputs.
        out_features: width of the outputs.
    """

    def __init__(self, members: int, in_features: int, out_features: int) -> None:
        super().__init__()
        self.members, self.in_features, self.out_features = members, in_features, out_features
        bound = 1 / math.sqrt(in_features)
        self.weight = nn.Parameter(torch.empty(members, in_features, out_features).uniform_(-bound, bound))
        # one vector: parameters of one dimension get no weight decay
        self.bias = nn.Parameter(torch.empty(members * out_features).uniform_(-bound, bound))

    def forward(self, inputs: Tensor) -> Tensor:
        """The outputs of each member, (M, B, out_features).

        Args:
            inputs: (B, in_features), the same for each member, or (M, B, in_features).
        """
        if inputs.ndim == 2:
            inputs = inputs.expand(self.members, *inputs.shape)
        return torch.baddbmm(self.bias.view(self.members, 1, -1), inputs, self.weight)

    def extra_repr(self) -> str:
        """As nn.Linear's, with the members."""
        return f"members={self.members}, in_features={self.in_features}, out_features={self.out_features}"
