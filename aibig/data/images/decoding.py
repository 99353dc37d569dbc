"""An image file as pixels: decoded, turned upright, cropped, resized. Knows no dataset.

C channels, S the size: images become (C, S, S) bytes.
"""

from __future__ import annotations

import io
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from aibig.errors import UserError
from aibig.vision import import_torchvision

Box = tuple[int, int, int, int]  # left, top, width, height in pixels of the upright image

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
ORIENTATION = 0x0112  # the EXIF tag; from 5 on, width and height are exchanged
MODES = {1: "L", 3: "RGB"}
MAX_ASPECT, MIN_ASPECT = 4 / 3, 3 / 4  # of a random crop, before it is resized to a square (arXiv 1409.4842, section 6)
CROP_TRIALS = 10


def read_image(
    path: str | Path,
    size: int,
    channels: int,
    *,
    generator: torch.Generator | None = None,
    smallest_crop: float = 1.0,
    flip: bool = False,
) -> Tensor:
    """An image file as (C, S, S) bytes, red first.

    Turned as EXIF says. Grey becomes colour and colour grey (ITU-R 601-2) as `channels` asks; palettes and CMYK become
    RGB; transparency becomes white; 16 bits become the upper 8; of an animation the first frame is taken.

    Args:
        path: the file.
        size: S, pixels of a side.
        channels: C, 3 for colour or 1 for grey.
        generator: for training: draws the crop and the flip; None takes the centre, as wide as the shorter side.
        smallest_crop: smallest share of the area that a random crop has, from 0 to 1; 1 takes the centre.
        flip: whether to mirror half of the time.

    Raises:
        UserError: the file is damaged, truncated, or no image.
    """
    try:
        data = Path(path).read_bytes()
        image = Image.open(io.BytesIO(data))
        is_turned = image.getexif().get(ORIENTATION, 1) >= 5
        width, height = image.size[::-1] if is_turned else image.size
        box, is_mirrored = centre_box(width, height), False
        if generator is not None:
            box = random_box(width, height, smallest_crop, generator) if smallest_crop < 1 else box
            is_mirrored = flip and bool(torch.rand((), generator=generator) < 0.5)
        pixels = _decode(data, image, channels, min(box[2:]) / size)
    except Exception as error:  # each decoder raises what it likes
        raise UserError(f"{path}: is not an image that can be read ({_reason(error)}); repair or replace it") from None
    ratio = pixels.shape[2] / width  # less than 1 where the decoder has reduced it
    left, top, crop_width, crop_height = (round(length * ratio) for length in box)
    crop = pixels[:, top : top + crop_height, left : left + crop_width]
    if crop.shape[1:] != (size, size):
        # channels last, in which torch resizes bytes three times as fast
        crop = F.interpolate(
            crop[None].contiguous(memory_format=torch.channels_last),
            (size, size),
            mode="bilinear",
            antialias=True,
            align_corners=False,
        )[0]
    return crop.flip(2) if is_mirrored else crop


def centre_box(width: int, height: int) -> Box:
    """The square in the centre.

    Args:
        width: of the image, in pixels.
        height: of the image, in pixels.
    """
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side, side


def random_box(width: int, height: int, smallest: float, generator: torch.Generator) -> Box:
    """A box of random area and aspect ratio at a random position.

    Drawn as torchvision's RandomResizedCrop draws: area uniformly, logarithm of the ratio uniformly, 10 trials.

    Args:
        width: of the image, in pixels.
        height: of the image, in pixels.
        smallest: smallest share of the area, from 0 to 1.
        generator: draws it.
    """
    for share, shape, across, down in torch.rand(CROP_TRIALS, 4, generator=generator).tolist():
        area = width * height * (smallest + (1 - smallest) * share)
        aspect = math.exp(math.log(MIN_ASPECT) + (math.log(MAX_ASPECT) - math.log(MIN_ASPECT)) * shape)
        box_width, box_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            return int(across * (width - box_width + 1)), int(down * (height - box_height + 1)), box_width, box_height
    box_width, box_height = min(width, round(height * MAX_ASPECT)), min(height, round(width / MIN_ASPECT))
    return (width - box_width) // 2, (height - box_height) // 2, box_width, box_height


def _decode(data: bytes, image: Image.Image, channels: int, reduction: float) -> Tensor:
    """All pixels, (C, H, W) bytes, upright. A JPEG that may be reduced by 2, 4 or 8 is decoded at that scale.

    torchvision's decoder gives the same pixels as Pillow's (both are libjpeg-turbo) in less time; Pillow's knows
    scales, and every other format.
    """
    mode = MODES[channels]
    if image.format == "JPEG" and image.mode == mode:
        if reduction >= 2:
            image.draft(mode, (math.ceil(image.width / reduction), math.ceil(image.height / reduction)))
        elif (decode := _jpeg_decoder()) is not None:
            return decode(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    image.load()
    pixels = np.array(_converted(ImageOps.exif_transpose(image), mode))
    return torch.from_numpy(pixels).view(*pixels.shape[:2], channels).permute(2, 0, 1)


def _converted(image: Image.Image, mode: str) -> Image.Image:
    """The image in mode "L" or "RGB"."""
    if image.mode == "F":
        raise ValueError("its pixels are fractions, of which nobody knows the largest")
    if image.mode.startswith("I"):  # 16 bits, as PNG and TIFF have them
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)).convert(mode)
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert(mode)
    return image.convert(mode)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "of no format that Pillow knows"
    message = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(message).splitlines()[0]


@cache
def _jpeg_decoder() -> Any:
    """torchvision's decoder of JPEG bytes, or None where there is none.

    Its function torchvision.io.decode_jpeg warns from 0.29 on that it will go; the operator below it does not.
    """
    try:
        import_torchvision()
        decode = torch.ops.image.decode_jpeg
    except (UserError, AttributeError):
        return None
    return lambda data: decode(data, 0, True)  # the file's own channels, turned as EXIF says
