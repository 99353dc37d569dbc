"""A Q-network for observations that are vectors. Knows no environment.

B observations, A actions, N atoms or quantiles.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from aibig.config.settings import PositiveFloat, PositiveInt
from aibig.errors import UserError
from aibig.layers.full_precision import in_full_precision
from aibig.layers.q.running_norm import RunningNorm
from aibig.layers.q.value_head import ValueHead, asked, head_settings, layers


class Dqn(nn.Module):
    """The value of each action: Linear - ReLU - Linear, by default exactly Linear(4, 16) - ReLU - Linear(16, 4).

    in_features: width of an observation. hidden: width of the hidden layer, or a list with the width of each.
    actions: number of discrete actions. scale: what observations are divided by, one number or one per column.
    normalise: by the mean and deviation of all that the agent has seen, instead. layer_norm: before each ReLU.
    (Q-network: arXiv 1312.5602.)

    Rainbow's parts (arXiv 1710.02298) are in the last hidden layer and what follows (`ValueHead`): dueling; noisy, of
    noise_scale 0.5; distribution: of returns, "categorical" (51 atoms from value_min -10 to value_max 10), "quantiles"
    (50) or "implicit_quantiles" (samples 64, target_samples 64, acting_samples 32, cosines 64).

    Raises UserError for settings that don't go together, and if `scale` has another width than the observations.
    """

    def __init__(
        self,
        *,
        in_features: PositiveInt = 4,
        hidden: PositiveInt | list[PositiveInt] = 16,
        actions: PositiveInt = 4,
        scale: PositiveFloat | list[PositiveFloat] = 1.0,
        normalise: bool = False,
        layer_norm: bool = False,
        dueling: bool = False,
        noisy: bool = False,
        noise_scale: PositiveFloat | None = None,
        distribution: Literal["categorical", "quantiles", "implicit_quantiles"] | None = None,
        value_min: float | None = None,
        value_max: float | None = None,
        atoms: PositiveInt | None = None,
        quantiles: PositiveInt | None = None,
        samples: PositiveInt | None = None,
        target_samples: PositiveInt | None = None,
        acting_samples: PositiveInt | None = None,
        cosines: PositiveInt | None = None,
    ) -> None:
        super().__init__()
        if isinstance(scale, list) and len(scale) != in_features:
            wanted = f"an observation has {in_features}; give one for each"
            raise UserError(f"scale has {len(scale)} numbers, {wanted}")
        if normalise and scale != 1.0:
            raise UserError("scale: observations are normalised already; leave it out, or normalise")
        # A setting of the model, kept with it: whoever uses the model gives it raw observations.
        self.factor: Tensor | None
        self.register_buffer("factor", None if scale == 1.0 else 1.0 / torch.tensor(scale), persistent=False)
        self.norm = RunningNorm((in_features,)) if normalise else None
        widths = [in_features, *([hidden] if isinstance(hidden, int) else hidden)]
        settings, described = head_settings(
            dueling=dueling,
            noisy=noisy,
            noise_scale=noise_scale,
            layer_norm=layer_norm,
            distribution=distribution,
            value_min=value_min,
            value_max=value_max,
            atoms=atoms,
            quantiles=quantiles,
            samples=samples,
            target_samples=target_samples,
            acting_samples=acting_samples,
            cosines=cosines,
        )
        plain = not (dueling or noisy or distribution)
        self.hidden_layers = nn.Sequential(*layers(widths if plain else widths[:-1], layer_norm=layer_norm))
        if len(widths) < 2 and not plain:
            raise UserError("hidden: a head with these parts begins with a hidden layer; give at least one width")
        if plain:
            self.head: nn.Module = nn.Linear(widths[-1], actions)
        else:
            self.head = ValueHead(widths[-2], widths[-1], actions, **settings, full_precision=True)
        self.distribution = described

    def forward(self, observations: Tensor, fractions: Tensor | None = None) -> Tensor:
        """(B, in_features) -> (B, actions), or what `distribution` reads, (B, actions, N). fractions: (B, N)."""
        inputs = observations.flatten(1)
        if not inputs.is_floating_point():
            inputs = inputs.float()
        if self.factor is not None:
            inputs = inputs * self.factor
        elif self.norm is not None:
            inputs = self.norm(inputs)
        features = self.hidden_layers(inputs)
        if not isinstance(self.head, ValueHead):
            return in_full_precision(self.head, features)
        return self.head(features, asked(self.distribution, len(inputs), fractions))
