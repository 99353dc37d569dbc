"""What follows a Q-network's features: the values of actions, or their distributions. Knows no features.

B observations, F features, A actions, N atoms or quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from aibig.layers.q.noisy import NoisyLinear
from aibig.layers.utils.full_precision import last_in_full_precision


class ValueHead(nn.Module):
    """A hidden layer and an output layer; dueling: one pair for the state's value and one for actions' advantages.

    Args:
        features: width of the features, F.
        hidden: width of the hidden layer.
        actions: number of actions, A.
        outputs_per_action: N, of a distribution over a fixed number of atoms or quantiles; None for one number.
        dueling: value and advantage apart (arXiv 1511.06581, eq. 9; over atoms: Rainbow, arXiv 1710.02298, section 3).
        noise_scale: of noisy layers; None for plain ones.
        layer_norm: whether there is a LayerNorm before each ReLU.
        cosines: cosines that embed a fraction of probability (arXiv 1806.06923, eq. 4); None for no fractions.
        full_precision: whether output layers compute in float32 under autocast.
    """

    angles: Tensor

    def __init__(
        self,
        features: int,
        hidden: int,
        actions: int,
        *,
        outputs_per_action: int | None,
        dueling: bool,
        noise_scale: float | None,
        layer_norm: bool,
        cosines: int | None,
        full_precision: bool = False,
    ) -> None:
        super().__init__()
        self.actions, self.outputs_per_action, self.full_precision = actions, outputs_per_action, full_precision
        linear = nn.Linear if noise_scale is None else partial(NoisyLinear, scale=noise_scale)

        def branch(outputs: int) -> nn.Sequential:
            return nn.Sequential(*hidden_layers([features, hidden], linear, layer_norm), linear(hidden, outputs))

        self.advantage = branch(actions * (outputs_per_action or 1))
        self.value = branch(outputs_per_action or 1) if dueling else None
        self.fraction_embedding = nn.Linear(cosines, features) if cosines is not None else None
        if cosines is not None:
            self.register_buffer("angles", math.pi * torch.arange(cosines), persistent=False)

    def forward(self, features: Tensor, fractions: Tensor | None = None) -> Tensor:
        """Values of actions, or what a distribution says of them.

        Args:
            features: (B, F).
            fractions: of probability, whose quantiles are asked for, (B, N); only and always with `cosines`.

        Returns:
            (B, A), or (B, A, N).
        """
        if self.fraction_embedding is not None:
            assert fractions is not None
            cosines = (fractions.unsqueeze(-1) * self.angles).cos()  # (B, N, cosines)
            features = features.unsqueeze(1) * self.fraction_embedding(cosines).relu()  # (B, N, F)
        output = self._apply_layers(self.advantage, features)
        value = None if self.value is None else self._apply_layers(self.value, features)
        if value is not None and self.outputs_per_action is None:  # (B, A) or (B, N, A)
            output = value + output - output.mean(-1, keepdim=True)
        elif self.outputs_per_action is not None:
            output = output.unflatten(-1, (self.actions, self.outputs_per_action))  # (B, A, N)
            if value is not None:
                output = value.unsqueeze(1) + output - output.mean(1, keepdim=True)
        return output if self.fraction_embedding is None else output.transpose(1, 2)

    def _apply_layers(self, layers: nn.Sequential, features: Tensor) -> Tensor:
        if self.full_precision:
            return last_in_full_precision(layers, features)
        output: Tensor = layers(features)
        return output


def hidden_layers(
    widths: Sequence[int], linear: Callable[[int, int], nn.Module] = nn.Linear, layer_norm: bool = False
) -> list[nn.Module]:
    """Linear (- LayerNorm) - ReLU for each pair of neighbouring widths.

    Args:
        widths: of the inputs and of each layer's outputs.
        linear: (in_features, out_features) -> a linear layer.
        layer_norm: whether there is a LayerNorm before each ReLU.
    """
    layers: list[nn.Module] = []
    for in_features, out_features in pairwise(widths):
        layers += [linear(in_features, out_features), *([nn.LayerNorm(out_features)] if layer_norm else []), nn.ReLU()]
    return layers
