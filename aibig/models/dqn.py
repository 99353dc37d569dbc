"""A Q-network for observations that are vectors. Knows no environment."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aibig.errors import UserError
from aibig.layers.feed_forward import hidden_layers
from aibig.settings import PositiveFloat, PositiveInt


class Dqn(nn.Module):
    """The value of each action: Linear - ReLU - Linear, by default exactly Linear(4, 16) - ReLU - Linear(16, 4).

    in_features: width of an observation. hidden: width of the hidden layer, or a list with the width of each.
    actions: number of discrete actions. scale: what observations are divided by, one number or one per column.
    (Q-network: arXiv 1312.5602.)

    Raises UserError if `scale` has another width than the observations.
    """

    def __init__(
        self,
        *,
        in_features: PositiveInt = 4,
        hidden: PositiveInt | list[PositiveInt] = 16,
        actions: PositiveInt = 4,
        scale: PositiveFloat | list[PositiveFloat] = 1.0,
    ) -> None:
        super().__init__()
        if isinstance(scale, list) and len(scale) != in_features:
            wanted = f"an observation has {in_features}; give one for each"
            raise UserError(f"scale has {len(scale)} numbers, {wanted}")
        # A setting of the model, kept with it: whoever uses the model gives it raw observations.
        self.factor: Tensor | None
        self.register_buffer("factor", None if scale == 1.0 else 1.0 / torch.tensor(scale), persistent=False)
        widths = [in_features, *([hidden] if isinstance(hidden, int) else hidden)]
        self.hidden_layers = hidden_layers(widths)
        self.head = nn.Linear(widths[-1], actions)

    def forward(self, observations: Tensor) -> Tensor:
        """(B, in_features) -> (B, actions)."""
        inputs = observations.flatten(1)
        return self.head(self.hidden_layers(inputs if self.factor is None else inputs * self.factor))
