"""Random shifts, flips and rotations of a batch of images, all at once. Knows no dataset.

B images of (C, H, W).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Augmentation:
    """Changes each image at random, independently of the others; what comes in from beyond the edge is 0."""

    shift_pixels: int = 0  # at most so many whole pixels, up or down and left or right
    flip: bool = False  # mirror half of the images
    rotate_degrees: float = 0.0  # about the centre, at most so many either way

    def __bool__(self) -> bool:
        return bool(self.shift_pixels or self.flip or self.rotate_degrees)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """(B, C, H, W) of any type on any device -> the same, but float32 if rotated. The generator is the CPU's."""
        count, device = len(images), images.device
        if self.flip:
            mirrored = (torch.rand(count, generator=generator) < 0.5).to(device)
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
        if self.rotate_degrees:
            largest = math.radians(self.rotate_degrees)
            images = rotate(images, ((torch.rand(count, generator=generator) * 2 - 1) * largest).to(device))
        if self.shift_pixels:
            limit = self.shift_pixels
            down, right = torch.randint(-limit, limit + 1, (2, count), generator=generator).to(device)
            images = shift(images, down, right, limit)
        return images


def shift(images: Tensor, down: Tensor, right: Tensor, limit: int) -> Tensor:
    """Images moved by whole pixels.

    Args:
        images: (B, C, H, W).
        down: (B,) pixels, from -limit to limit.
        right: (B,) pixels, from -limit to limit.
        limit: largest shift.
    """
    height, width = images.shape[2:]
    windows = (
        F.pad(images, (limit, limit, limit, limit)).unfold(2, height, 1).unfold(3, width, 1)
    )  # views of all shifts
    return windows[torch.arange(len(images), device=images.device), :, limit - down, limit - right]


def rotate(images: Tensor, radians: Tensor) -> Tensor:
    """Images rotated anticlockwise about their centre, bilinear, as float32.

    Args:
        images: (B, C, H, W).
        radians: (B,) angles.
    """
    images = images.float()
    height, width = images.shape[2:]
    cosine, sine, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    # where each pixel comes from; coordinates run from -1 to 1 over either side
    rows = [cosine, -sine * height / width, zero, sine * width / height, cosine, zero]
    grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
