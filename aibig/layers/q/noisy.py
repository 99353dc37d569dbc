"""Linear layers whose weights are noisy, so that an agent explores. Knows no network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NoisyLinear(nn.Module):
    """y = (W + S * outer(e, f)) x + b + s * e, with W, S, b, s learned (arXiv 1706.10295, eq. 9 to 11).

    e (out,) and f (in,) are drawn by `resample_noise`, and count only while the noise is on (`noisy`), whatever the
    module's mode: without it the layer is Linear(W, b). scale: the paper's sigma_0. Noise is not part of the state.
    """

    noise_in: Tensor
    noise_out: Tensor

    def __init__(self, in_features: int, out_features: int, scale: float = 0.5) -> None:
        super().__init__()
        bound = in_features**-0.5
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_features).uniform_(-bound, bound))
        self.weight_scale = nn.Parameter(torch.full((out_features, in_features), scale * bound))
        self.bias_scale = nn.Parameter(torch.full((out_features,), scale * bound))
        self.register_buffer("noise_in", torch.zeros(in_features), persistent=False)
        self.register_buffer("noise_out", torch.zeros(out_features), persistent=False)
        self.noise_is_on = False

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features). The noise is of rank one: it costs one more product."""
        mean = F.linear(inputs, self.weight, self.bias)
        if not self.noise_is_on:
            return mean
        return mean + F.linear(inputs * self.noise_in, self.weight_scale, self.bias_scale) * self.noise_out

    def extra_repr(self) -> str:
        """As nn.Linear's."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


def noisy_layers(module: nn.Module) -> list[NoisyLinear]:
    """Those under `module`."""
    return [one for one in module.modules() if isinstance(one, NoisyLinear)]


@torch.no_grad()
def resample_noise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw new noise, sign(x) sqrt|x| of normal x (section 3.2b), with a generator of the CPU."""
    for layer in noisy_layers(module):
        drawn = torch.randn(layer.in_features + layer.out_features, generator=generator)
        drawn = drawn.sign() * drawn.abs().sqrt_()
        layer.noise_in.copy_(drawn[: layer.in_features])
        layer.noise_out.copy_(drawn[layer.in_features :])


def turn_noise(module: nn.Module, on: bool) -> None:
    """Switch the noise of every noisy layer under `module`."""
    for layer in noisy_layers(module):
        layer.noise_is_on = on


@contextmanager
def noisy(module: nn.Module, on: bool = True) -> Iterator[None]:
    """`turn_noise` for a while; afterwards each layer is as it was."""
    layers = noisy_layers(module)
    before = [layer.noise_is_on for layer in layers]
    turn_noise(module, on)
    try:
        yield
    finally:
        for layer, was_on in zip(layers, before, strict=True):
            layer.noise_is_on = was_on
