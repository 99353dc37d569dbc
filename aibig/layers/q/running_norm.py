"""Observations normalised by the mean and variance of all that were seen so far. Knows no network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LARGEST = 10.0  # standard deviations from the mean, further ones are cut off


class RunningNorm(nn.Module):
    """(x - mean) / standard deviation, cut off at +-10; statistics are buffers, saved with the model.

    shape: of one observation. Before anything is observed it changes nothing but the largest numbers.
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
        """(B, *shape) -> alike, float32."""
        return ((observations.float() - self.mean) * (self.variance + 1e-8).rsqrt()).clamp(-LARGEST, LARGEST)

    @torch.no_grad()
    def update(self, observations: Tensor) -> None:
        """Take (B, *shape) more into account, B may be 0 (Chan, Golub and LeVeque 1979, eq. 2.1)."""
        if not len(observations):  # all environments were reset
            return
        more = observations.to(self.mean)
        count, total = len(more), self.count + len(more)
        variance, mean = torch.var_mean(more, 0, correction=0)
        apart = mean - self.mean
        share = count / total  # of all that were seen
        self.variance.lerp_(variance, share).add_(apart.square() * (share * (1.0 - share)))
        self.mean.add_(apart * share)
        self.count.copy_(total)


def observe(module: nn.Module, observations: Tensor) -> None:
    """`update` every running norm under `module`."""
    for one in module.modules():
        if isinstance(one, RunningNorm):
            one.update(observations)
