"""Linear layers whose weights are noisy, so that an agent explores. Knows no network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NoisyLinear(nn.Module):
    """A linear layer with factorised Gaussian noise in its weights and bias (noisy nets: arXiv 1706.10295).

    y = (weight + weight_sigma * outer(noise_out, noise_in)) x + bias + bias_sigma * noise_out (eq. 9 to 11).
    `reset_noise` draws the noise, which is not part of the state. It counts only while it is enabled, whatever the
    module's mode: without it the layer is Linear(weight, bias).

    Args:
        in_features: width of the inputs.
        out_features: width of the outputs.
        scale: the first sigmas times sqrt(in_features): the paper's sigma_0 (section 3.2).
    """

    noise_in: Tensor
    noise_out: Tensor

    def __init__(self, in_features: int, out_features: int, scale: float = 0.5) -> None:
        super().__init__()
        bound = in_features**-0.5
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_features).uniform_(-bound, bound))
        self.weight_sigma = nn.Parameter(torch.full((out_features, in_features), scale * bound))
        self.bias_sigma = nn.Parameter(torch.full((out_features,), scale * bound))
        self.register_buffer("noise_in", torch.zeros(in_features), persistent=False)
        self.register_buffer("noise_out", torch.zeros(out_features), persistent=False)
        self.noise_enabled = False

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer. The noise is of rank one: it costs one more product.

        Args:
            inputs: (..., in_features).

        Returns:
            (..., out_features).
        """
        mean = F.linear(inputs, self.weight, self.bias)
        if not self.noise_enabled:
            return mean
        return mean + F.linear(inputs * self.noise_in, self.weight_sigma, self.bias_sigma) * self.noise_out

    def extra_repr(self) -> str:
        """As nn.Linear's."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


def noisy_layers(module: nn.Module) -> list[NoisyLinear]:
    """Every noisy layer of a module.

    Args:
        module: searched, with all that is in it.
    """
    return [layer for layer in module.modules() if isinstance(layer, NoisyLinear)]


@torch.no_grad()
def reset_noise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw new noise for every noisy layer: sign(x) sqrt|x| of normal x (arXiv 1706.10295, section 3.2b).

    Args:
        module: whose noisy layers get new noise.
        generator: draws it, on the CPU.
    """
    for layer in noisy_layers(module):
        noise = torch.randn(layer.in_features + layer.out_features, generator=generator)
        noise = noise.sign() * noise.abs().sqrt_()
        layer.noise_in.copy_(noise[: layer.in_features])
        layer.noise_out.copy_(noise[layer.in_features :])


def set_noise_enabled(module: nn.Module, enabled: bool) -> None:
    """Switch the noise of every noisy layer on or off.

    Args:
        module: whose noisy layers are switched.
        enabled: whether outputs are noisy.
    """
    for layer in noisy_layers(module):
        layer.noise_enabled = enabled


@contextmanager
def noise_enabled(module: nn.Module, enabled: bool = True) -> Iterator[None]:
    """`set_noise_enabled` for the length of a `with` block; then each layer is as it was before.

    Args:
        module: whose noisy layers are switched.
        enabled: whether outputs are noisy.
    """
    layers = noisy_layers(module)
    previous = [layer.noise_enabled for layer in layers]
    set_noise_enabled(module, enabled)
    try:
        yield
    finally:
        for layer, was_enabled in zip(layers, previous, strict=True):
            layer.noise_enabled = was_enabled
