"""A Q-network for observations that are vectors. Knows no environment.

B observations, F features, A actions, N atoms or quantiles.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from aibig.config.settings import PositiveFloat, PositiveInt
from aibig.errors import UserError
from aibig.layers.q.running_norm import RunningNorm
from aibig.layers.q.value_head import hidden_layers
from aibig.models.q_network import QNetwork


class Dqn(QNetwork):
    """The value of each action: Linear -> ReLU -> Linear, by default exactly Linear(4, 16) -> ReLU -> Linear(16, 4).

    (Q-network: arXiv 1312.5602.) A dueling, noisy or distributional head contains the last hidden layer.

    Args:
        in_features: width of an observation.
        hidden: width of the hidden layer, or a list with the width of each.
        actions: number of discrete actions, A.
        scale: what observations are divided by: one number, or one for each column.
        normalise: whether observations are normalised by the mean and deviation of all that the agent has seen.
        head: those of `QNetwork`.

    Raises:
        UserError: settings don't go together, or `scale` has another width than the observations.
    """

    def __init__(
        self,
        *,
        in_features: PositiveInt = 4,
        hidden: PositiveInt | list[PositiveInt] = 16,
        actions: PositiveInt = 4,
        scale: PositiveFloat | list[PositiveFloat] = 1.0,
        normalise: bool = False,
        **head: Any,
    ) -> None:
        super().__init__(**head)
        if isinstance(scale, list) and len(scale) != in_features:
            raise UserError(f"scale has {len(scale)} numbers, an observation has {in_features}; give one for each")
        if normalise and scale != 1.0:
            raise UserError("scale: observations are normalised already; leave it out, or normalise")
        # A setting of the model, kept with it: whoever uses the model gives it raw observations.
        self.factor: Tensor | None
        self.register_buffer("factor", None if scale == 1.0 else 1.0 / torch.tensor(scale), persistent=False)
        self.norm = RunningNorm((in_features,)) if normalise else None
        widths = [in_features, *([hidden] if isinstance(hidden, int) else hidden)]
        is_plain = not (self.dueling or self.noise_scale or self.distribution)
        if len(widths) < 2 and not is_plain:
            raise UserError(
                "hidden: dueling, noisy and distributional heads need a hidden layer; give at least one width"
            )
        layers = hidden_layers(widths if is_plain else widths[:-1], layer_norm=self.layer_norm)
        self.hidden_layers = nn.Sequential(*layers)
        if is_plain:
            self.head = nn.Linear(widths[-1], actions)
        else:
            self.head = self.value_head(widths[-2], widths[-1], actions, full_precision=True)

    def extract_features(self, observations: Tensor) -> Tensor:
        """Scale or normalise, then the hidden layers: (B, in_features) -> (B, F)."""
        inputs = observations.flatten(1)
        if not inputs.is_floating_point():
            inputs = inputs.float()
        if self.factor is not None:
            inputs = inputs * self.factor
        elif self.norm is not None:
            inputs = self.norm(inputs)
        features: Tensor = self.hidden_layers(inputs)
        return features
