"""The first convolution over pictures of bytes. Knows no model.

B pictures, C channels, H x W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PictureConv2d(nn.Conv2d):
    """A convolution that takes bytes, which it divides by 255, or numbers, which it takes as they are.

    Kernel and stride are alike in both directions. Where the stride s divides the kernel k, it is computed as one of
    stride 1 and kernel k / s over squares of s x s pixels, C s^2 channels each: the same sums in another order. Few
    channels leave most of a matrix unit idle: an update of the Nature CNN takes 1.15 times as long without.
    """

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, C, H, W) of bytes or numbers -> (B, out, H', W'), as nn.Conv2d of the bytes / 255."""
        of_bytes = pictures.dtype == torch.uint8
        weight = self.weight / 255.0 if of_bytes else self.weight
        device = pictures.device.type
        # half precision has all whole numbers up to 256
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.weight.dtype
        side = self.stride[0]
        if side == 1 or self.kernel_size[0] % side or any(self.padding):
            return F.conv2d(pictures.to(dtype), weight, self.bias, self.stride, self.padding)
        return F.conv2d(squares(pictures, side).to(dtype).permute(0, 3, 1, 2), kernels(weight, side), self.bias)


def squares(pictures: Tensor, side: int) -> Tensor:
    """(B, C, H, W) -> (B, H // side, W // side, C side^2): what is left at the right and below is cut off."""
    batch, channels, height, width = pictures.shape
    rows, columns = height // side, width // side
    pictures = pictures[:, :, : rows * side, : columns * side].contiguous()
    if pictures.dtype == torch.uint8 and side == 4:  # four bytes are moved as one number
        words = pictures.view(torch.int32).view(batch, channels, rows, 4, columns).permute(0, 2, 4, 1, 3)
        return words.contiguous().view(torch.uint8).view(batch, rows, columns, -1)
    parts = pictures.view(batch, channels, rows, side, columns, side).permute(0, 2, 4, 1, 3, 5)
    return parts.reshape(batch, rows, columns, -1)


def kernels(weight: Tensor, side: int) -> Tensor:
    """(out, C, k, k) -> (out, C side^2, k / side, k / side), the channels in the order of `squares`."""
    out, channels, height, width = weight.shape
    parts = weight.view(out, channels, height // side, side, width // side, side).permute(0, 1, 3, 5, 2, 4)
    return parts.reshape(out, -1, height // side, width // side)
