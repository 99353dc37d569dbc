"""Distributions of the return of an action, as a Q-network puts them out. Knows no network.

B observations, A actions, N atoms or quantiles.
"""

from __future__ import annotations

from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from aibig.errors import UserError


class ReturnDistribution(nn.Module):
    """How the numbers that a network puts out for each action are to be read. Without parameters."""

    outputs_per_action: int | None = None  # N; None: one for each fraction that the network is asked for
    cosines: int | None = None  # that embed a fraction, where there are fractions

    def mean(self, output: Tensor) -> Tensor:
        """The mean return.

        Args:
            output: of the network, (..., N).

        Returns:
            (...), float32.
        """
        return output.float().mean(-1)


class CategoricalReturn(ReturnDistribution):
    """Probabilities, as logits, of evenly spaced returns (C51: arXiv 1707.06887, section 4).

    Args:
        value_min: the lowest return.
        value_max: the highest return.
        atoms: number of returns, N.

    Raises:
        UserError: the bounds are in the wrong order, or there are fewer than two atoms.
    """

    support: Tensor

    def __init__(self, *, value_min: float = -10.0, value_max: float = 10.0, atoms: int = 51) -> None:
        super().__init__()
        if value_min >= value_max:
            raise UserError(f"value_min {value_min:g} must be below value_max {value_max:g}")
        if atoms < 2:
            raise UserError(f"atoms: a distribution over returns takes 2 or more, not {atoms}")
        self.value_min, self.value_max, self.outputs_per_action = value_min, value_max, atoms
        self.register_buffer("support", torch.linspace(value_min, value_max, atoms), persistent=False)  # (N,)

    def mean(self, output: Tensor) -> Tensor:
        """The atoms' mean by their probabilities."""
        return (output.float().softmax(-1) * self.support).sum(-1)  # no product that autocast would round


class QuantileReturn(ReturnDistribution):
    """The returns at N fixed fractions of probability (QR-DQN: arXiv 1710.10044, section 3).

    Args:
        quantiles: number of fractions, N. 200 in the paper; an update compares their pairs, which is what it costs.
    """

    fractions: Tensor

    def __init__(self, *, quantiles: int = 50) -> None:
        super().__init__()
        self.outputs_per_action = quantiles
        self.register_buffer("fractions", quantile_midpoints(quantiles), persistent=False)  # (N,)


class ImplicitQuantileReturn(ReturnDistribution):
    """The returns at any fractions of probability that the network is asked for (IQN: arXiv 1806.06923).

    Args:
        samples: fractions drawn for the value at an update (the paper's N).
        target_samples: fractions drawn for the target at an update (the paper's N').
        acting_samples: fractions of the mean by which an agent acts (the paper's K): always the same midpoints.
        cosines: cosines that embed a fraction (the paper's n, eq. 4).
    """

    acting_fractions: Tensor

    def __init__(
        self, *, samples: int = 64, target_samples: int = 64, acting_samples: int = 32, cosines: int = 64
    ) -> None:
        super().__init__()
        self.samples, self.target_samples, self.cosines = samples, target_samples, cosines
        self.register_buffer("acting_fractions", quantile_midpoints(acting_samples), persistent=False)


DISTRIBUTIONS: dict[str, type[ReturnDistribution]] = {
    "categorical": CategoricalReturn,
    "quantiles": QuantileReturn,
    "implicit_quantiles": ImplicitQuantileReturn,
}


def make_distribution(kind: str | None, **settings: Any) -> ReturnDistribution | None:
    """The distribution of a kind.

    Args:
        kind: a name in DISTRIBUTIONS, or None for no distribution.
        settings: those of all kinds; None stands for the kind's own default.

    Raises:
        UserError: a setting belongs to another kind.
    """
    settings = {name: value for name, value in settings.items() if value is not None}
    for name in settings:
        owner = next(other for other, cls in DISTRIBUTIONS.items() if name in signature(cls).parameters)
        if owner != kind:
            current = "none is set" if kind is None else f"this is {kind!r}"
            raise UserError(f"{name}: belongs to the distribution {owner!r}, but {current}; leave it out")
    return None if kind is None else DISTRIBUTIONS[kind](**settings)


def quantile_midpoints(count: int) -> Tensor:
    """The middles of equal parts of the range from 0 to 1 (arXiv 1710.10044, lemma 2).

    Args:
        count: number of parts, N.

    Returns:
        (N,).
    """
    return (torch.arange(count) + 0.5) / count


def action_values(model: nn.Module, output: Tensor) -> Tensor:
    """The mean return of each action.

    Args:
        model: any Q-network.
        output: what it has put out, (B, A), or (B, A, N) if it has a distribution.

    Returns:
        (B, A).
    """
    distribution: ReturnDistribution | None = getattr(model, "distribution", None)
    return output if distribution is None else distribution.mean(output)
