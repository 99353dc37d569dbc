"""Fully connected layers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def hidden_layers(widths: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Linear - ReLU (- Dropout) for each pair of neighbours in `widths`: (B, widths[0]) -> (B, widths[-1])."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)
