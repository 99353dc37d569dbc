"""Observations normalised by the mean and variance of all that were observed so far. Knows no network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MAX_DEVIATIONS = 10.0  # standard deviations from the mean at which inputs are clipped


class RunningNorm(nn.Module):
    """(x - mean) / standard deviation, clipped at +-10; the statistics are buffers, saved with the model.

    Before anything is observed it changes nothing but the largest numbers.

    Args:
        shape: of one observation.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("variance", torch.ones(shape))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, observations: Tensor) -> Tensor:
        """Normalise, without a change of the statistics.

        Args:
            observations: (B, *shape).

        Returns:
            (B, *shape), float32.
        """
        normalised = (observations.float() - self.mean) * (self.variance + 1e-8).rsqrt()
        return normalised.clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)

    @torch.no_grad()
    def update(self, observations: Tensor) -> None:
        """Add observations to the statistics (Chan, Golub and LeVeque 1979, eq. 2.1).

        Args:
            observations: (B, *shape); B may be 0.
        """
        if not len(observations):  # all environments were reset
            return
        new = observations.to(self.mean)
        count, total = len(new), self.count + len(new)
        variance, mean = torch.var_mean(new, 0, correction=0)
        difference = mean - self.mean
        fraction = count / total  # of all observations
        self.variance.lerp_(variance, fraction).add_(difference.square() * (fraction * (1.0 - fraction)))
        self.mean.add_(difference * fraction)
        self.count.copy_(total)


def running_norms(module: nn.Module) -> list[RunningNorm]:
    """Every running norm of a module.

    Args:
        module: searched, with all that is in it.
    """
    return [layer for layer in module.modules() if isinstance(layer, RunningNorm)]


def update_running_norms(module: nn.Module, observations: Tensor) -> None:
    """`RunningNorm.update` of every running norm of a module.

    Args:
        module: whose running norms are updated.
        observations: (B, *shape); B may be 0.
    """
    for layer in running_norms(module):
        layer.update(observations)
