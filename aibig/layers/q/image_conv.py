"""The first convolution over images of bytes. Knows no model.

B images, C channels, H x W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ImageConv2d(nn.Conv2d):
    """nn.Conv2d that takes bytes, which it divides by 255, or floating-point numbers, which it takes as they are.

    Kernel and stride are alike in both directions. Where the stride s divides the kernel k, it is computed as one of
    stride 1 and kernel k / s over `space_to_depth` of the images: the same sums in another order. Few channels leave
    most of a matrix unit idle: without this an update of the Nature CNN takes 1.15 times as long.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Convolve.

        Args:
            images: bytes or floating-point numbers, (B, C, H, W).

        Returns:
            (B, out_channels, H', W'), as nn.Conv2d of the bytes / 255.
        """
        weight = self.weight / 255.0 if images.dtype == torch.uint8 else self.weight
        device = images.device.type
        # half precision has all whole numbers up to 256
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.weight.dtype
        stride = self.stride[0]
        if stride == 1 or self.kernel_size[0] % stride or any(self.padding):
            return F.conv2d(images.to(dtype), weight, self.bias, self.stride, self.padding)
        inputs = space_to_depth(images, stride).to(dtype).permute(0, 3, 1, 2)
        return F.conv2d(inputs, kernel_space_to_depth(weight, stride), self.bias)


def space_to_depth(images: Tensor, block: int) -> Tensor:
    """Move each block of pixels into the channels, as F.pixel_unshuffle does in another order.

    Args:
        images: of any type, (B, C, H, W).
        block: side of a block, in pixels. What is left over at the right and below is cut off.

    Returns:
        (B, H // block, W // block, C block^2).
    """
    batch, channels, height, width = images.shape
    rows, columns = height // block, width // block
    images = images[:, :, : rows * block, : columns * block].contiguous()
    if images.dtype == torch.uint8 and block == 4:  # four bytes are moved as one number
        words = images.view(torch.int32).view(batch, channels, rows, 4, columns).permute(0, 2, 4, 1, 3)
        return words.contiguous().view(torch.uint8).view(batch, rows, columns, -1)
    blocks = images.view(batch, channels, rows, block, columns, block).permute(0, 2, 4, 1, 3, 5)
    return blocks.reshape(batch, rows, columns, -1)


def kernel_space_to_depth(weight: Tensor, block: int) -> Tensor:
    """The kernel that belongs to the images of `space_to_depth`.

    Args:
        weight: kernel of a convolution, (out_channels, C, k, k).
        block: side of a block, in pixels, which divides k.

    Returns:
        (out_channels, C block^2, k / block, k / block).
    """
    out_channels, channels, height, width = weight.shape
    blocks = weight.view(out_channels, channels, height // block, block, width // block, block)
    return blocks.permute(0, 1, 3, 5, 2, 4).reshape(out_channels, -1, height // block, width // block)
