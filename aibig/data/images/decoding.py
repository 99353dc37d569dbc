"""A picture file as pixels: decoded, turned upright, cropped, resized. Knows no dataset.

C channels, S the size: pictures become (C, S, S) bytes.
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

Box = tuple[int, int, int, int]  # left, top, width, height in pixels of the upright picture

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
ORIENTATION = 0x0112  # the EXIF tag; from 5 on, width and height change places
MODES = {1: "L", 3: "RGB"}
WIDEST, NARROWEST = 4 / 3, 3 / 4  # of a random crop, before it is resized to a square (arXiv 1409.4842, section 6)
CROP_TRIALS = 10


def read_picture(
    path: str | Path,
    size: int,
    channels: int,
    *,
    generator: torch.Generator | None = None,
    smallest_crop: float = 1.0,
    flip: bool = False,
) -> Tensor:
    """The picture at `path` as (C, S, S) bytes, red first.

    Without a generator the centre, as wide as the shorter side; with one, for training, a random crop of at least
    `smallest_crop` of the area, mirrored half of the time if `flip`.

    Turned as EXIF says. Grey becomes colour and colour grey (ITU-R 601-2) as `channels` asks; palettes and CMYK become
    RGB; what is transparent lies on white; 16 bits become the upper 8; of an animation the first picture is taken.

    Raises UserError naming the file for one that is damaged, truncated, or no picture.
    """
    try:
        data = Path(path).read_bytes()
        picture = Image.open(io.BytesIO(data))
        turned = picture.getexif().get(ORIENTATION, 1) >= 5
        width, height = picture.size[::-1] if turned else picture.size
        box, mirrored = centre_box(width, height), False
        if generator is not None:
            box = random_box(width, height, smallest_crop, generator) if smallest_crop < 1 else box
            mirrored = flip and bool(torch.rand((), generator=generator) < 0.5)
        pixels = _decoded(data, picture, channels, min(box[2:]) / size)
    except Exception as error:  # each decoder raises what it likes
        raise UserError(f"{path}: is no picture that can be read ({_reason(error)}); mend or replace it") from None
    ratio = pixels.shape[2] / width  # less than 1 where the decoder has shrunk it
    left, top, wide, high = (round(one * ratio) for one in box)
    cropped = pixels[:, top : top + high, left : left + wide]
    if cropped.shape[1:] != (size, size):
        # channels last, in which torch resizes bytes three times as fast
        cropped = F.interpolate(
            cropped[None].contiguous(memory_format=torch.channels_last),
            (size, size),
            mode="bilinear",
            antialias=True,
            align_corners=False,
        )[0]
    return cropped.flip(2) if mirrored else cropped


def centre_box(width: int, height: int) -> Box:
    """The square in the middle."""
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side, side


def random_box(width: int, height: int, smallest: float, generator: torch.Generator) -> Box:
    """A box of a random share of the area, at least `smallest`, of a random shape, at a random place.

    Drawn as torchvision's RandomResizedCrop draws: area uniformly, logarithm of the shape uniformly, 10 trials.
    """
    for share, shape, across, down in torch.rand(CROP_TRIALS, 4, generator=generator).tolist():
        area = width * height * (smallest + (1 - smallest) * share)
        ratio = math.exp(math.log(NARROWEST) + (math.log(WIDEST) - math.log(NARROWEST)) * shape)
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            return int(across * (width - wide + 1)), int(down * (height - high + 1)), wide, high
    wide, high = min(width, round(height * WIDEST)), min(height, round(width / NARROWEST))
    return (width - wide) // 2, (height - high) // 2, wide, high


def _decoded(data: bytes, picture: Image.Image, channels: int, shrinkable: float) -> Tensor:
    """All pixels, (C, H, W) bytes, upright. A JPEG that is `shrinkable` by 2, 4 or 8 is decoded at that scale.

    torchvision's decoder gives the same pixels as Pillow's (both are libjpeg-turbo) in less time; Pillow's knows
    scales, and every other format.
    """
    mode = MODES[channels]
    if picture.format == "JPEG" and picture.mode == mode:
        if shrinkable >= 2:
            picture.draft(mode, (math.ceil(picture.width / shrinkable), math.ceil(picture.height / shrinkable)))
        elif (decode := _jpeg_decoder()) is not None:
            return decode(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    picture.load()
    pixels = np.array(_converted(ImageOps.exif_transpose(picture), mode))
    return torch.from_numpy(pixels).view(*pixels.shape[:2], channels).permute(2, 0, 1)


def _converted(picture: Image.Image, mode: str) -> Image.Image:
    """`picture` in "L" or "RGB"."""
    if picture.mode == "F":
        raise ValueError("its pixels are fractions, of which nobody knows the largest")
    if picture.mode.startswith("I"):  # 16 bits, as PNG and TIFF have them
        return Image.fromarray((np.asarray(picture).clip(0, 65535) >> 8).astype(np.uint8)).convert(mode)
    if picture.has_transparency_data:
        opaque = Image.new("RGBA", picture.size, "white")
        opaque.alpha_composite(picture.convert("RGBA"))
        return opaque.convert(mode)
    return picture.convert(mode)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "of no format that Pillow knows"
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(words).splitlines()[0]


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
