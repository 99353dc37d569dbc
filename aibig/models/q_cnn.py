"""A Q-network for observations that are images. Knows no environment.

B observations, S frames, C channels, H x W pixels, F features, A actions, N atoms or quantiles.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from aibig.config.settings import PositiveInt
from aibig.errors import UserError
from aibig.layers.q.image_conv import ImageConv2d
from aibig.models.q_network import QNetwork

MIN_PIXELS = {"nature": 36, "impala": 8}  # a side, that the convolutions take at least


class QCnn(QNetwork):
    """Convolutions, a hidden layer, and the value of each action.

    Args:
        shape: shape of an observation: (C, H, W), (H, W, 1 or 3), or a stack of frames (S, H, W, C). Bytes are divided
            by 255.
        actions: number of discrete actions, A.
        trunk: the convolutions: "nature", 32 8x8/4, 64 4x4/2 and 64 3x3/1 with ReLU (Mnih et al. 2015, Methods), or
            "impala", three stages of a 3x3, pooling and two residual blocks with 16, 32 and 32 channels
            (arXiv 1802.01561, figure 3, right).
        width: what the convolutions' channels are multiplied by.
        hidden: width of the layer after the convolutions.
        head: those of `QNetwork`.

    Raises:
        UserError: settings don't go together, or the images are too small.
    """

    def __init__(
        self,
        *,
        shape: list[PositiveInt] = [4, 84, 84],  # noqa: B006 (never changed)
        actions: PositiveInt = 4,
        trunk: Literal["nature", "impala"] = "nature",
        width: PositiveInt = 1,
        hidden: PositiveInt = 512,
        **head: Any,
    ) -> None:
        super().__init__(**head)
        if len(shape) not in (3, 4):
            raise UserError(f"shape: observations {shape} are no images; take the model 'dqn', or stack frames")
        self.channels_last = len(shape) == 4 or shape[2] in (1, 3)
        rows, columns = shape[-3:-1] if self.channels_last else shape[1:]
        channels = shape[0] * shape[3] if len(shape) == 4 else shape[2] if self.channels_last else shape[0]
        if min(rows, columns) < MIN_PIXELS[trunk]:
            raise UserError(f"shape: images of {rows} x {columns}; {trunk!r} takes {MIN_PIXELS[trunk]} pixels a side")
        self.trunk = (nature if trunk == "nature" else impala)(channels, width).to(memory_format=torch.channels_last)
        with torch.no_grad():
            features = self.trunk(torch.zeros(1, channels, rows, columns)).numel()
        # Under autocast as the rest: with outputs in full precision a run of Pong learned slower than two without.
        self.head = self.value_head(features, hidden, actions, full_precision=False)

    def extract_features(self, observations: Tensor) -> Tensor:
        """The convolutions: (B, *shape) -> (B, F)."""
        images = observations
        if observations.ndim == 5:  # (B, S, H, W, C)
            images = observations.permute(0, 1, 4, 2, 3).flatten(1, 2)
        elif self.channels_last:
            images = observations.permute(0, 3, 1, 2)
        features: Tensor = self.trunk(images).flatten(1)
        return features


def nature(channels: int, width: int) -> nn.Sequential:
    """The convolutions of DQN for Atari: (B, C, 84, 84) -> (B, 64, 7, 7).

    Args:
        channels: of an image, C.
        width: what the numbers of channels are multiplied by.
    """
    layers: list[nn.Module] = []
    for out_channels, kernel, stride in ((32 * width, 8, 4), (64 * width, 4, 2), (64 * width, 3, 1)):
        layers += [(nn.Conv2d if layers else ImageConv2d)(channels, out_channels, kernel, stride), nn.ReLU()]
        channels = out_channels
    return nn.Sequential(*layers)


def impala(channels: int, width: int) -> nn.Sequential:
    """The convolutions of IMPALA: (B, C, 84, 84) -> (B, 32, 11, 11).

    Args:
        channels: of an image, C.
        width: what the numbers of channels are multiplied by.
    """
    layers: list[nn.Module] = []
    for out_channels in (16 * width, 32 * width, 32 * width):
        layers += [
            (nn.Conv2d if layers else ImageConv2d)(channels, out_channels, 3, padding=1),
            nn.MaxPool2d(3, 2, padding=1),
            ResidualBlock(out_channels),
            ResidualBlock(out_channels),
        ]
        channels = out_channels
    return nn.Sequential(*layers, nn.ReLU())


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(relu(x)))).

    Args:
        channels: of inputs and outputs, C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the block.

        Args:
            inputs: (B, C, H, W).

        Returns:
            (B, C, H, W).
        """
        return inputs + self.second(self.first(inputs.relu()).relu())
