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
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def forward(self, observations: Tensor) -> Tensor:
        """(B, *shape) -> alike, float32."""
        mean, factor = self.mean.float(), (self.variance + 1e-8).rsqrt().float()
        return ((observations.float() - mean) * factor).clamp(-LARGEST, LARGEST)

    @torch.no_grad()
    def update(self, observations: Tensor) -> None:
        """Take (B, *shape) more into account, B may be 0 (Chan, Golub and LeVeque 1979, eq. 2.1)."""
        if not len(observations):  # all environments were reset
            return
        more = observations.to(self.mean)
        count, total = len(more), self.count + len(more)
        variance, mean = torch.var_mean(more, 0, correction=0)
        apart = mean - self.mean
        seen = self.count * self.variance + count * variance + apart.square() * self.count * count / total
        self.variance.copy_(seen / total)
        self.mean.add_(apart * (count / total))
        self.count.copy_(total)


def observe(module: nn.Module, observations: Tensor) -> None:
    """`update` every running norm under `module`."""
    for one in module.modules():
        if isinstance(one, RunningNorm):
            one.update(observations)
