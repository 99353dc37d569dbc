"""What the Q-networks share: the settings of the head, and the way from features to values. Knows no observation.

B observations, F features, A actions, N atoms or quantiles.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from torch import Tensor, nn

from aibig.config.settings import PositiveFloat, PositiveInt
from aibig.errors import UserError
from aibig.layers.q.value_distributions import ImplicitQuantileReturn, make_distribution
from aibig.layers.q.value_head import ValueHead
from aibig.layers.utils.full_precision import in_full_precision


class QNetwork(nn.Module, ABC):
    """Features of observations, then the value of each action, or the distribution of its return.

    A subclass takes these settings as `**head`, hands them to this constructor, and then sets `head`, which
    `value_head` makes. They are the parts of Rainbow (arXiv 1710.02298) and of what came after.

    Args:
        layer_norm: whether there is a LayerNorm before each ReLU of the linear layers.
        dueling: whether the head has a branch for the state's value and one for actions' advantages
            (arXiv 1511.06581).
        noisy: whether the head's linear layers have noisy weights, so that the agent explores (arXiv 1706.10295).
        noise_scale: initial size of the noise of noisy layers, the paper's sigma_0; by default 0.5.
        distribution: what is learned of an action's return: "categorical" (C51, arXiv 1707.06887), "quantiles"
            (QR-DQN, arXiv 1710.10044), "implicit_quantiles" (IQN, arXiv 1806.06923); null: its mean alone.
        value_min: the lowest return of a categorical distribution; by default -10.
        value_max: the highest return of a categorical distribution; by default 10.
        atoms: number of returns of a categorical distribution; by default 51.
        quantiles: number of quantiles of the distribution "quantiles"; by default 50.
        samples: quantile levels (IQN's N) sampled for the online network at an update; by default 64.
        target_samples: quantile levels (IQN's N') sampled for the target at an update; by default 64.
        acting_samples: quantiles (IQN's K, evenly spaced) whose mean the agent acts by; by default 32.
        cosines: cosines that embed a quantile level of implicit quantiles; by default 64.

    Raises:
        UserError: settings don't go together.
    """

    head: nn.Module

    def __init__(
        self,
        *,
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
        if noise_scale is not None and not noisy:
            raise UserError("noise_scale: belongs to noisy layers; set noisy: true, or leave it out")
        self.layer_norm, self.dueling = layer_norm, dueling
        self.noise_scale = (noise_scale or 0.5) if noisy else None  # sigma_0 of arXiv 1706.10295, section 3.2
        self.distribution = make_distribution(
            distribution,
            value_min=value_min,
            value_max=value_max,
            atoms=atoms,
            quantiles=quantiles,
            samples=samples,
            target_samples=target_samples,
            acting_samples=acting_samples,
            cosines=cosines,
        )

    def value_head(self, features: int, hidden: int, actions: int, *, full_precision: bool) -> ValueHead:
        """A head with the parts that are set.

        Args:
            features: width of the features, F.
            hidden: width of the head's hidden layer.
            actions: number of actions, A.
            full_precision: whether output layers compute in float32 under autocast.
        """
        distribution = self.distribution
        return ValueHead(
            features,
            hidden,
            actions,
            outputs_per_action=distribution.outputs_per_action if distribution else None,
            dueling=self.dueling,
            noise_scale=self.noise_scale,
            layer_norm=self.layer_norm,
            cosines=distribution.cosines if distribution else None,
            full_precision=full_precision,
        )

    @abstractmethod
    def extract_features(self, observations: Tensor) -> Tensor:
        """Features, the input of the head.

        Args:
            observations: (B, ...).

        Returns:
            (B, F).
        """

    def forward(self, observations: Tensor, fractions: Tensor | None = None) -> Tensor:
        """Values of actions, or what `distribution` reads.

        Args:
            observations: (B, ...).
            fractions: of probability, whose quantiles are asked for, (B, N); of implicit quantiles alone, which by
                default take those that an agent acts by.

        Returns:
            (B, A), or (B, A, N).
        """
        features = self.extract_features(observations)
        if not isinstance(self.head, ValueHead):
            return in_full_precision(self.head, features)
        if isinstance(self.distribution, ImplicitQuantileReturn) and fractions is None:
            fractions = self.distribution.acting_fractions.expand(len(features), -1)
        output: Tensor = self.head(features, fractions)
        return output
