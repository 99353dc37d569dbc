"""A multilayer perceptron. Knows no task: its outputs are scores, whatever they are used for. B batch."""

from __future__ import annotations

from torch import Tensor, nn

from aibig.config.settings import Fraction, PositiveInt
from aibig.layers.feed_forward import hidden_layers, linear


class Net(nn.Module):
    """Linear - ReLU - ... - Linear, by default exactly Linear(10, 5) - ReLU - Linear(5, 1).

    Args:
        in_features: width of the input; more dimensions than one are flattened.
        hidden: width of the hidden layer, or a list with the width of each.
        out_features: number of classes, or of target values.
        dropout: fraction dropped after each hidden layer.
        members: nets of an ensemble, trained as one model; each has weights and dropout of its own.
    """

    def __init__(
        self,
        *,
        in_features: PositiveInt = 10,
        hidden: PositiveInt | list[PositiveInt] = 5,
        out_features: PositiveInt = 1,
        dropout: Fraction = 0.0,
        members: PositiveInt = 1,
    ) -> None:
        super().__init__()
        widths = [in_features, *([hidden] if isinstance(hidden, int) else hidden)]
        self.hidden_layers = hidden_layers(widths, dropout, members)
        self.head = linear(widths[-1], out_features, members)

    def forward(self, inputs: Tensor) -> Tensor:
        """Scores (B, out_features), or (members, B, out_features) of several members.

        Args:
            inputs: (B, in_features), or (B, ...) with as many values.
        """
        return self.head(self.hidden_layers(inputs.flatten(1)))
