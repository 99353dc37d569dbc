"""Images of a batch moved, mirrored and turned at random, all at once. Knows no dataset.

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
    """Each image by its own draw; what comes in from beyond the edge is 0.

    shift_pixels: up to so many whole pixels, up or down and left or right. flip: mirrored, half of them.
    rotate_degrees: about the middle, up to so many either way.
    """

    shift_pixels: int = 0
    flip: bool = False
    rotate_degrees: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.shift_pixels or self.flip or self.rotate_degrees)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """(B, C, H, W) of any type on any device -> the same, but float32 if turned. The generator is the CPU's."""
        count, device = len(images), images.device
        if self.flip:
            mirrored = (torch.rand(count, generator=generator) < 0.5).to(device)
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
        if self.rotate_degrees:
            largest = math.radians(self.rotate_degrees)
            images = rotated(images, ((torch.rand(count, generator=generator) * 2 - 1) * largest).to(device))
        if self.shift_pixels:
            most = self.shift_pixels
            down, right = torch.randint(-most, most + 1, (2, count), generator=generator).to(device)
            images = shifted(images, down, right, most)
        return images


def shifted(images: Tensor, down: Tensor, right: Tensor, most: int) -> Tensor:
    """Images (B, C, H, W) moved by `down` and `right`, (B,) each, whole pixels of at most `most` either way."""
    height, width = images.shape[2:]
    places = F.pad(images, (most, most, most, most)).unfold(2, height, 1).unfold(3, width, 1)  # a view of all shifts
    return places[torch.arange(len(images), device=images.device), :, most - down, most - right]


def rotated(images: Tensor, radians: Tensor) -> Tensor:
    """Images (B, C, H, W) turned anticlockwise about their middle by `radians` (B,), bilinear, as float32."""
    images = images.float()
    height, width = images.shape[2:]
    cosine, sine, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    # where each pixel comes from; coordinates run from -1 to 1 over either side
    rows = [cosine, -sine * height / width, zero, sine * width / height, cosine, zero]
    grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
