"""Pictures in files with a class each: listed, split, read on the way. Knows no model and no loss."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aibig.config.settings import ExistingPath, Fraction, NonNegativeInt, PositiveInt
from aibig.data.arrays import fit_scaling
from aibig.data.fingerprint import fingerprint
from aibig.data.images.decoding import SUFFIXES, read_picture
from aibig.data.samples import SampleData, Samples
from aibig.errors import UserError

PART_FOLDERS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
}
FITTED_ON = 256  # pictures of the training part, for the scaling
IMAGENET_MEAN, IMAGENET_SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # as torchvision's weights expect


@dataclass
class ImageFiles:
    """Picture files with their classes: what a dataset of pictures is before one is read.

    targets: (rows,) class numbers. given: as of `aibig.data.arrays.Arrays`.
    """

    paths: list[Path]
    targets: NDArray[Any]
    class_names: list[str]
    given: dict[str, NDArray[Any]] = field(default_factory=dict)


def image_folder(*, path: ExistingPath) -> ImageFiles:
    """The pictures in path/CLASS/..., at any depth; or in path/train/CLASS/..., path/validation/... and path/test/...

    Classes and files in sorted order. Hidden files, and files that are no pictures by their name's ending, are left
    out. Parts that have a folder (validation is also val or valid) are taken as they are; the others are split off.

    Raises UserError for a path that is no folder, without classes, or with a class that has no picture.
    """
    root = Path(path)
    if not root.is_dir():
        raise UserError(f"{root}: is no folder; give one with a folder of pictures for each class")
    parts = _parts(root)
    class_names = [one.name for one in _folders(parts["train"])]
    if not class_names:
        raise UserError(f"{parts['train']}: has no folders in it; give one with a folder of pictures for each class")
    paths: list[Path] = []
    targets: list[int] = []
    rows: dict[str, NDArray[Any]] = {}
    for part, folder in parts.items():
        strange = [one.name for one in _folders(folder) if one.name not in class_names]
        if strange:
            raise UserError(f"{folder / strange[0]}: is no class of {parts['train']}; add it there or remove it here")
        start = len(paths)
        for number, name in enumerate(class_names):
            found = pictures_in(folder / name)
            if not found and part == "train":
                endings = ", ".join(sorted(SUFFIXES))
                raise UserError(f"{folder / name}: has no pictures ({endings}); add some, or remove the folder")
            paths += found
            targets += [number] * len(found)
        rows[part] = np.arange(start, len(paths))
    given = {part: index for part, index in rows.items() if part != "train" and len(index)}
    return ImageFiles(paths, np.array(targets), class_names, given)


def _parts(root: Path) -> dict[str, Path]:
    """The folder of each part; `root` itself is all if it has no folder train/ with folders in it."""
    folders = _folders(root)
    if not any(one.name == "train" and _folders(one) for one in folders):
        return {"train": root}
    parts: dict[str, Path] = {}
    for one in folders:
        part = PART_FOLDERS.get(one.name)
        if part is None or part in parts:
            raise UserError(
                f"{one}: is no part, or one twice; beside train/ there may be validation/ (or val/) and test/"
            )
        parts[part] = one
    return {"train": parts.pop("train"), **parts}


def pictures_in(folder: Path) -> list[Path]:
    """The picture files in a folder, at any depth, sorted; none that is hidden."""
    found = [one for one in folder.rglob("*") if one.suffix.lower() in SUFFIXES]
    return sorted(one for one in found if not any(name.startswith(".") for name in one.relative_to(folder).parts))


def _folders(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))


class ImageData(SampleData):
    """Pictures split into train, validation and test, decoded by threads ahead of their use.

    source: the files, or a function that returns them. image_size: pictures become squares of so many pixels: the
    shorter side is resized to it and the middle taken. channels: 3 for colour, 1 for grey. smallest_crop: for
    training a random crop of at least this share of the area is taken, of a shape from 3:4 to 4:3; 1 takes the
    middle. flip: mirror half of the training pictures. scaling: "standard" makes each channel's mean 0 and variance 1
    (over 256 training pictures), "range" divides by 255, "imagenet" takes ImageNet's mean and spread, as torchvision's
    weights expect. The other settings are those of SampleData.

    Raises UserError for a picture that can't be read, when it is read.
    """

    samples: ImageSamples

    def __init__(
        self,
        source: ImageFiles | Callable[[], ImageFiles],
        *,
        image_size: PositiveInt = 224,
        channels: Literal[1, 3] = 3,
        smallest_crop: Fraction = 0.08,
        flip: bool = True,
        scaling: Literal["standard", "range", "imagenet"] = "standard",
        batch_size: PositiveInt = 64,
        validation_fraction: Fraction = 0.15,
        test_fraction: Fraction = 0.2,
        split: Literal["auto", "stratified", "random"] = "auto",
        split_seed: NonNegativeInt = 0,
        workers: NonNegativeInt | Literal["auto"] = "auto",
        prefetch: NonNegativeInt = 2,
    ) -> None:
        files = source() if callable(source) else source
        super().__init__(
            ImageSamples(files, image_size, channels, smallest_crop, flip),
            batch_size=batch_size,
            validation_fraction=validation_fraction,
            test_fraction=test_fraction,
            split=split,
            split_seed=split_seed,
            workers=workers,
            prefetch=prefetch,
        )
        self.samples.shift, self.samples.scale = self._fitted(scaling)

    def _fitted(self, scaling: str) -> tuple[Tensor, Tensor]:
        channels = self.sample_shape[0]
        if scaling == "imagenet":
            if channels != 3:
                raise UserError("scaling 'imagenet' is of 3 channels; leave out channels=1, or take 'standard'")
            mean, spread = (255 * torch.tensor(one).view(3, 1, 1) for one in (IMAGENET_MEAN, IMAGENET_SPREAD))
            return mean, spread
        rows = self.parts["train"]
        some = rows[:: -(-len(rows) // FITTED_ON)] if scaling == "standard" else rows[:1]
        return fit_scaling(self.readers.begin(some, None).wait().to(torch.uint8), scaling)  # not scaled yet

    def inference_facts(self) -> dict[str, Any]:
        """Size, channels and scaling of the pictures."""
        return {
            "predictor": "images",
            "feature_names": [],
            "feature_shape": self.sample_shape,
            "feature_shift": self.samples.shift.tolist(),
            "feature_scale": self.samples.scale.tolist(),
        }


class ImageSamples(Samples):
    """Picture files as (C, S, S) bytes."""

    def __init__(self, files: ImageFiles, size: int, channels: int, smallest_crop: float, flip: bool) -> None:
        self.paths, self.targets, self.class_names, self.given = (
            files.paths,
            files.targets,
            files.class_names,
            files.given,
        )
        self._size, self._channels, self._smallest_crop, self._flip = size, channels, smallest_crop, flip
        self.shift, self.scale = torch.zeros(()), torch.ones(())

    def read(self, row: int, generator: torch.Generator | None) -> Tensor:
        """(C, S, S) bytes of a picture; for training cropped and mirrored at random."""
        crop, flip = self._smallest_crop, self._flip
        return read_picture(
            self.paths[row], self._size, self._channels, generator=generator, smallest_crop=crop, flip=flip
        )

    def scale_(self, features: Tensor) -> Tensor:
        """(value - shift) / scale, channel by channel, in place."""
        return features.sub_(self.shift.to(features.device)).div_(self.scale.to(features.device))

    def fingerprint(self, rows: Tensor) -> str:
        """By the files' names and classes: a picture may be mended in its place."""
        names = self._names(rows)
        return fingerprint(
            torch.frombuffer(bytearray(names, "utf-8"), dtype=torch.uint8), torch.from_numpy(self.targets)[rows]
        )

    def _names(self, rows: Tensor) -> str:
        root = os.path.commonpath([one.parent for one in self.paths])
        return "\0".join(os.path.relpath(self.paths[row], root).replace(os.sep, "/") for row in rows.tolist())
