"""What follows a Q-network's features: values of actions, or what is said of their distributions. Knows no features.

B observations, F features, A actions, N atoms or quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from aibig.errors import UserError
from aibig.layers.full_precision import last_in_full_precision
from aibig.layers.q.noisy import NoisyLinear
from aibig.layers.q.value_distributions import Categorical, ImplicitQuantiles, Quantiles, ValueDistribution

MakeLinear = Callable[[int, int], nn.Module]

NOISE_SCALE = 0.5  # sigma_0 of the paper, section 3.2
PARTS: dict[str | None, dict[str, Any]] = {  # the settings of each kind of distribution, with the papers' numbers
    None: {},
    "categorical": {"value_min": -10.0, "value_max": 10.0, "atoms": 51},
    "quantiles": {"quantiles": 50},  # 200 in the paper; their pairs are compared, which is what an update costs
    "implicit_quantiles": {"samples": 64, "target_samples": 64, "acting_samples": 32, "cosines": 64},
}


class ValueHead(nn.Module):
    """A hidden layer and an output layer; dueling: one pair for the state's value and one for what actions add to it.

    features: F. hidden: width. noise_scale: with it, layers are noisy. cosines: with them, fractions of probability
    are asked for. full_precision: of the output layers, also under autocast. (Dueling: arXiv 1511.06581, eq. 9; over
    atoms as in Rainbow, arXiv 1710.02298, section 3; fractions: arXiv 1806.06923, eq. 4.)
    """

    angles: Tensor

    def __init__(
        self,
        features: int,
        hidden: int,
        actions: int,
        *,
        numbers: int | None,
        dueling: bool,
        noise_scale: float | None,
        layer_norm: bool,
        cosines: int | None,
        full_precision: bool = False,
    ) -> None:
        super().__init__()
        self.actions, self.numbers, self.full_precision = actions, numbers, full_precision
        make = nn.Linear if noise_scale is None else partial(NoisyLinear, scale=noise_scale)
        widths = [features, hidden]
        each = 1 if numbers is None else numbers
        self.advantage = nn.Sequential(*layers(widths, make, layer_norm), make(hidden, actions * each))
        self.value = nn.Sequential(*layers(widths, make, layer_norm), make(hidden, each)) if dueling else None
        self.fractions = nn.Linear(cosines, features) if cosines is not None else None
        if cosines is not None:
            self.register_buffer("angles", math.pi * torch.arange(cosines), persistent=False)

    def forward(self, features: Tensor, fractions: Tensor | None = None) -> Tensor:
        """(B, F), and where they are asked for fractions (B, N) -> (B, A) or (B, A, N)."""
        if self.fractions is not None:
            assert fractions is not None
            cosines = (fractions.unsqueeze(-1) * self.angles).cos()  # (B, N, cosines)
            features = features.unsqueeze(1) * self.fractions(cosines).relu()  # (B, N, F)
        out = self._put_out(self.advantage, features)
        value = None if self.value is None else self._put_out(self.value, features)
        if value is not None and self.numbers is None:  # (B, A) or (B, N, A)
            out = value + out - out.mean(-1, keepdim=True)
        elif self.numbers is not None:
            out = out.unflatten(-1, (self.actions, self.numbers))  # (B, A, N)
            if value is not None:
                out = value.unsqueeze(1) + out - out.mean(1, keepdim=True)
        return out if self.fractions is None else out.transpose(1, 2)

    def _put_out(self, layers: nn.Sequential, features: Tensor) -> Tensor:
        if self.full_precision:
            return last_in_full_precision(layers, features)
        out: Tensor = layers(features)
        return out


def layers(widths: Sequence[int], make: MakeLinear = nn.Linear, layer_norm: bool = False) -> list[nn.Module]:
    """Linear (- LayerNorm) - ReLU for each pair of neighbours in `widths`."""
    made: list[nn.Module] = []
    for before, after in pairwise(widths):
        made += [make(before, after), *([nn.LayerNorm(after)] if layer_norm else []), nn.ReLU()]
    return made


def make_distribution(kind: str | None, given: dict[str, Any]) -> tuple[ValueDistribution | None, dict[str, Any]]:
    """The distribution of a kind, None for none, and all its settings; of `given`, None stands for the paper's.

    Raises UserError for a setting of another kind.
    """
    for name, value in given.items():
        owner = next(one for one, settings in PARTS.items() if name in settings)
        if value is not None and owner != kind:
            here = "none is set" if kind is None else f"this is {kind!r}"
            raise UserError(f"{name}: is of the distribution {owner!r}, {here}; leave it out")
    settings = PARTS[kind] | {name: value for name, value in given.items() if value is not None}
    if kind == "categorical":
        return Categorical(settings["value_min"], settings["value_max"], settings["atoms"]), settings
    if kind == "quantiles":
        return Quantiles(settings["quantiles"]), settings
    if kind == "implicit_quantiles":
        samples = (settings[name] for name in ("samples", "target_samples", "acting_samples"))
        return ImplicitQuantiles(*samples), settings
    return None, settings


def head_settings(
    *, dueling: bool, noisy: bool, noise_scale: float | None, layer_norm: bool, distribution: str | None, **given: Any
) -> tuple[dict[str, Any], ValueDistribution | None]:
    """What `ValueHead` takes beside widths and actions, and the distribution whose numbers it puts out.

    given: the settings in PARTS, None where the paper's number will do.

    Raises UserError for settings that don't go together.
    """
    if noise_scale is not None and not noisy:
        raise UserError("noise_scale: is of noisy layers; set noisy: true, or leave it out")
    described, settings = make_distribution(distribution, given)
    scale = NOISE_SCALE if noise_scale is None else noise_scale
    made = {
        "numbers": settings.get("atoms") or settings.get("quantiles"),
        "dueling": dueling,
        "noise_scale": scale if noisy else None,
        "layer_norm": layer_norm,
        "cosines": settings.get("cosines"),
    }
    return made, described


def asked(distribution: ValueDistribution | None, batch: int, fractions: Tensor | None) -> Tensor | None:
    """The fractions (B, N) that a head is asked for: those given, or those by which an agent acts."""
    if isinstance(distribution, ImplicitQuantiles) and fractions is None:
        return distribution.acting.expand(batch, -1)
    return fractions
