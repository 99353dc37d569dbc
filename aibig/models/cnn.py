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
    """Convolution 5x5, stride 2 - stages of max pooling and 3x3 convolutions - global average pooling - Linear.

    After each convolution come batch norm (arXiv 1502.03167) and ReLU. Images are kept channels last in memory, which
    the CPU's and CUDA's convolutions in bf16 are fastest with.

    Args:
        in_channels: channels of the image.
        num_classes: number of outputs.
        widths: channels of the first convolution, then of each stage, which halves height and width.
        depth: convolutions of a stage.

    Raises:
        UserError: there are fewer than two widths.
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
        self.stem = conv_norm_relu(in_channels, widths[0], kernel_size=5, stride=2)
        self.stages = nn.Sequential()
        for in_width, width in pairwise(widths):
            convs = [conv_norm_relu(width if index else in_width, width) for index in range(depth)]
            self.stages.append(nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), *convs))
        self.head = nn.Linear(widths[-1], num_classes)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Scores (B, num_classes).

        Args:
            images: (B, C, H, W).
        """
        features = self.stages(self.stem(images.contiguous(memory_format=torch.channels_last)))
        return self.head(features.mean((2, 3)))


def conv_norm_relu(in_channels: int, out_channels: int, *, kernel_size: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution - batch norm - ReLU: (B, in_channels, H, W) -> (B, out_channels, H/stride, W/stride), rounded up.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: height and width of the kernel, an odd number.
        stride: of the convolution.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
