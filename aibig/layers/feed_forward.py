"""Fully connected layers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from aibig.layers.packed import PackedLinear


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
