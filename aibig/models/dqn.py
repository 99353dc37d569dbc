"""A Q-network for observations that are vectors. Knows no environment."""

from __future__ import annotations

from torch import Tensor, nn

from aibig.layers.feed_forward import hidden_layers
from aibig.settings import PositiveInt


class Dqn(nn.Module):
    """The value of each action: Linear - ReLU - Linear, by default exactly Linear(4, 16) - ReLU - Linear(16, 4).

    in_features: width of an observation. hidden: width of the hidden layer, or a list with the width of each.
    actions: number of discrete actions. (Q-network: arXiv 1312.5602.)
    """

    def __init__(
        self,
        *,
        in_features: PositiveInt = 4,
        hidden: PositiveInt | list[PositiveInt] = 16,
        actions: PositiveInt = 4,
    ) -> None:
        super().__init__()
        widths = [in_features, *([hidden] if isinstance(hidden, int) else hidden)]
        self.hidden_layers = hidden_layers(widths)
        self.head = nn.Linear(widths[-1], actions)

    def forward(self, observations: Tensor) -> Tensor:
        """(B, in_features) -> (B, actions)."""
        return self.head(self.hidden_layers(observations.flatten(1)))
