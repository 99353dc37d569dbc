"""What a Q-network says of the return of an action beside its mean. Knows no network.

B observations, A actions, N atoms or quantiles.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aibig.errors import UserError


class ValueDistribution(nn.Module):
    """How an output (B, A, N) is to be read. Without parameters."""

    def values(self, output: Tensor) -> Tensor:
        """The mean return of each action: (B, A, N) -> (B, A)."""
        raise NotImplementedError


class Categorical(ValueDistribution):
    """Probabilities, as logits, of N returns that lie evenly from `low` to `high` (C51: arXiv 1707.06887, section 4).

    Raises UserError unless low < high and there are two or more.
    """

    support: Tensor

    def __init__(self, low: float, high: float, atoms: int) -> None:
        super().__init__()
        if low >= high:
            raise UserError(f"value_min {low:g} must be below value_max {high:g}")
        if atoms < 2:
            raise UserError(f"atoms: a distribution over returns takes 2 or more, not {atoms}")
        self.low, self.high, self.atoms = low, high, atoms
        self.register_buffer("support", torch.linspace(low, high, atoms), persistent=False)  # (N,)

    def values(self, output: Tensor) -> Tensor:
        """The support weighed by the probabilities."""
        return (output.float().softmax(-1) * self.support).sum(-1)  # no product that autocast would round


class Quantiles(ValueDistribution):
    """The returns at N fractions of probability, the middles of N equal parts (QR-DQN: arXiv 1710.10044, section 3)."""

    fractions: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.register_buffer("fractions", middles(count), persistent=False)  # (N,)

    def values(self, output: Tensor) -> Tensor:
        """Their mean."""
        return output.float().mean(-1)


class ImplicitQuantiles(ValueDistribution):
    """The returns at fractions of probability that whoever asks chooses (IQN: arXiv 1806.06923).

    samples, target_samples: fractions drawn for an update, of the value and of its target. acting_samples: of the mean
    by which an agent acts; the middles of as many equal parts are taken, so that it always acts alike.
    """

    acting: Tensor

    def __init__(self, samples: int, target_samples: int, acting_samples: int) -> None:
        super().__init__()
        self.samples, self.target_samples = samples, target_samples
        self.register_buffer("acting", middles(acting_samples), persistent=False)

    def values(self, output: Tensor) -> Tensor:
        """Their mean."""
        return output.float().mean(-1)


def middles(count: int) -> Tensor:
    """(N,) of N equal parts of 0 to 1."""
    return (torch.arange(count) + 0.5) / count


def action_values(model: nn.Module, output: Tensor) -> Tensor:
    """The mean return of each action, (B, A), from what `model`, any Q-network, has put out."""
    distribution: ValueDistribution | None = getattr(model, "distribution", None)
    return output if distribution is None else distribution.values(output)
