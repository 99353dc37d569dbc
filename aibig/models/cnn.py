"""A small convolutional net for images of any size. Knows no task: its outputs are scores.

B batch, C channels of the image, H height, W width.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from aibig.config.settings import PositiveInt
from aibig.errors import UserError


class Cnn(nn.Module):
    """Convolution 5x5, stride 2 - (max pooling - convolutions 3x3) for each further width - mean over places - Linear.

    in_channels: C. num_classes: outputs. widths: channels of the first convolution, then of each stage, which halves
    height and width. depth: convolutions of a stage. After each convolution come batch norm (arXiv 1502.03167) and
    ReLU. Pixels are kept channels last in memory, which the CPU's and CUDA's convolutions in bf16 are fastest with.

    Raises UserError for fewer than two widths.
    """

    def __init__(
        self,
        *,
        in_channels: PositiveInt = 1,
        num_classes: PositiveInt = 10,
        widths: tuple[PositiveInt, ...] = (32, 64, 128),
        depth: PositiveInt = 2,
    ) -> None:
        super().__init__()
        if len(widths) < 2:
            raise UserError(f"widths {list(widths)}: give that of the first convolution and of one stage or more")
        self.stem = convolution(in_channels, widths[0], size=5, stride=2)
        self.stages = nn.Sequential()
        for before, width in pairwise(widths):
            convolutions = [convolution(before if number == 0 else width, width) for number in range(depth)]
            self.stages.append(nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), *convolutions))
        self.head = nn.Linear(widths[-1], num_classes)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, num_classes)."""
        features = self.stages(self.stem(images.contiguous(memory_format=torch.channels_last)))
        return self.head(features.mean((2, 3)))


def convolution(before: int, after: int, *, size: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution - batch norm - ReLU: (B, before, H, W) -> (B, after, H/stride, W/stride), rounded up."""
    return nn.Sequential(
        nn.Conv2d(before, after, size, stride, size // 2, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )
