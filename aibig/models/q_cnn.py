"""A Q-network for observations that are pictures. Knows no environment.

B observations, S frames, C channels, A actions, N atoms or quantiles.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from aibig.config.settings import PositiveFloat, PositiveInt
from aibig.errors import UserError
from aibig.layers.q.image_conv import PictureConv2d
from aibig.layers.q.value_head import ValueHead, asked, head_settings

SIDES = {"nature": 36, "impala": 8}  # pixels that the convolutions take at least


class QCnn(nn.Module):
    """Convolutions, a hidden layer, and the value of each action.

    trunk: "nature", 32 8x8/4, 64 4x4/2 and 64 3x3/1 with ReLU (Mnih et al. 2015, Methods), or "impala", three stages
    of a 3x3, pooling and two residual blocks with 16, 32 and 32 channels (arXiv 1802.01561, figure 3, right). width:
    channels are multiplied by it. shape: of an observation, (C, H, W), (H, W, 1 or 3) or a stack of
    frames (S, H, W, C); of bytes, they are divided by 255. hidden: of the layer after the convolutions. The others are
    those of `Dqn`.

    Raises UserError for settings that don't go together, and for a picture that is too small.
    """

    def __init__(
        self,
        *,
        shape: list[PositiveInt] = [4, 84, 84],  # noqa: B006 (never changed)
        actions: PositiveInt = 4,
        trunk: Literal["nature", "impala"] = "nature",
        width: PositiveInt = 1,
        hidden: PositiveInt = 512,
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
        if len(shape) not in (3, 4):
            raise UserError(f"shape: observations {shape} are no pictures; take the model 'dqn', or stack frames")
        self.channels_last = len(shape) == 4 or shape[2] in (1, 3)
        height, across = shape[-3:-1] if self.channels_last else shape[1:]
        channels = shape[0] * shape[3] if len(shape) == 4 else shape[2] if self.channels_last else shape[0]
        if min(height, across) < SIDES[trunk]:
            raise UserError(f"shape: pictures of {height} x {across}; {trunk!r} takes {SIDES[trunk]} pixels a side")
        self.trunk = (nature if trunk == "nature" else impala)(channels, width).to(memory_format=torch.channels_last)
        with torch.no_grad():
            places = self.trunk(torch.zeros(1, channels, height, across)).numel()
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
        # Under autocast as the rest: with outputs in full precision a run of Pong learned slower than two without.
        self.head = ValueHead(places, hidden, actions, **settings)
        self.distribution = described

    def forward(self, observations: Tensor, fractions: Tensor | None = None) -> Tensor:
        """(B, *shape) -> (B, actions), or what `distribution` reads, (B, actions, N). fractions: (B, N)."""
        pictures = observations
        if observations.ndim == 5:  # (B, S, H, W, C)
            pictures = observations.permute(0, 1, 4, 2, 3).flatten(1, 2)
        elif self.channels_last:
            pictures = observations.permute(0, 3, 1, 2)
        features = self.trunk(pictures).flatten(1)
        return self.head(features, asked(self.distribution, len(pictures), fractions))


def nature(channels: int, width: int) -> nn.Sequential:
    """(B, C, 84, 84) -> (B, 64, 7, 7)."""
    parts: list[nn.Module] = []
    for out, kernel, stride in ((32 * width, 8, 4), (64 * width, 4, 2), (64 * width, 3, 1)):
        parts += [(nn.Conv2d if parts else PictureConv2d)(channels, out, kernel, stride), nn.ReLU()]
        channels = out
    return nn.Sequential(*parts)


def impala(channels: int, width: int) -> nn.Sequential:
    """(B, C, 84, 84) -> (B, 32, 11, 11)."""
    parts: list[nn.Module] = []
    for out in (16 * width, 32 * width, 32 * width):
        first = (nn.Conv2d if parts else PictureConv2d)(channels, out, 3, padding=1)
        parts += [first, nn.MaxPool2d(3, 2, padding=1), Residual(out), Residual(out)]
        channels = out
    return nn.Sequential(*parts, nn.ReLU())


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x)))): (B, C, H, W) -> alike."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W) -> alike."""
        return inputs + self.second(self.first(inputs.relu()).relu())
