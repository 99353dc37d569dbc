"""Image files with a class each: listed, split, read on the way. Knows no model and no loss."""

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

from aibig.config.settings import ExistingPath, Fraction, PositiveInt
from aibig.data.arrays import fit_scaling
from aibig.data.fingerprint import fingerprint
from aibig.data.images.decoding import SUFFIXES, read_image
from aibig.data.samples import SampleData, Samples
from aibig.data.splits import predefined_rows
from aibig.errors import UserError

SPLIT_FOLDERS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
}
FITTED_IMAGES = 256  # of the training split, for the scaling
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # as torchvision's weights expect


@dataclass
class ImageFiles:
    """Image files and their classes: a dataset of images before any is read."""

    paths: list[Path]
    targets: NDArray[Any]  # (rows,) class numbers
    class_names: list[str]
    predefined_splits: dict[str, NDArray[Any]] = field(default_factory=dict)  # row numbers, as `split_rows` takes them


def image_folder(*, path: ExistingPath) -> ImageFiles:
    """The images in path/CLASS/..., at any depth; or in path/train/CLASS/..., path/validation/... and path/test/...

    Classes and files come in sorted order. Hidden files are left out, and files whose names do not end as an image's.
    Splits that have a folder (validation is also val or valid) are taken as they are; the others are split off.

    Args:
        path: folder with a folder of images for each class, or with folders train/, validation/ and test/ of such
            folders; missing splits are split off train/.

    Raises:
        UserError: the path is no folder, has no classes, or a class has no image.
    """
    root = Path(path)
    if not root.is_dir():
        raise UserError(f"{root}: is no folder; give one with a folder of images for each class")
    folders = _split_folders(root)
    class_names = [folder.name for folder in _subfolders(folders["train"])]
    if not class_names:
        raise UserError(f"{folders['train']}: has no folders in it; give one with a folder of images for each class")
    paths: list[Path] = []
    targets: list[int] = []
    sizes: dict[str, int] = {}
    for split, folder in folders.items():
        unknown = [subfolder.name for subfolder in _subfolders(folder) if subfolder.name not in class_names]
        if unknown:
            raise UserError(f"{folder / unknown[0]}: is no class of {folders['train']}; add it there or remove it here")
        before = len(paths)
        for number, name in enumerate(class_names):
            files = images_in(folder / name)
            if not files and split == "train":
                endings = ", ".join(sorted(SUFFIXES))
                raise UserError(f"{folder / name}: has no images ({endings}); add some, or remove the folder")
            paths += files
            targets += [number] * len(files)
        sizes[split] = len(paths) - before
    predefined = {split: rows for split, rows in predefined_rows(sizes).items() if len(rows)}
    return ImageFiles(paths, np.array(targets), class_names, predefined)


def _split_folders(root: Path) -> dict[str, Path]:
    """The folder of each split; `root` itself is the training split's if it has no folder train/ with folders in it."""
    folders = _subfolders(root)
    if not any(folder.name == "train" and _subfolders(folder) for folder in folders):
        return {"train": root}
    by_split: dict[str, Path] = {}
    for folder in folders:
        split = SPLIT_FOLDERS.get(folder.name)
        if split is None or split in by_split:
            raise UserError(
                f"{folder}: is no split, or one twice; beside train/ there may be validation/ (or val/) and test/"
            )
        by_split[split] = folder
    return {"train": by_split.pop("train"), **by_split}


def images_in(folder: Path) -> list[Path]:
    """The image files in a folder, at any depth, sorted; hidden ones are left out.

    Args:
        folder: that is searched.
    """
    files = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]
    return sorted(path for path in files if not any(name.startswith(".") for name in path.relative_to(folder).parts))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


class ImageData(SampleData):
    """Images split into train, validation and test, decoded by threads in batches ahead of their use.

    Args:
        source: the files, or a function that returns them.
        image_size: pixels of a side: the shorter side is resized to it and the centre square taken.
        channels: 3 for colour, 1 for grey.
        smallest_crop: in training, a random crop has at least this share of the area, and an aspect ratio from 3:4 to
            4:3; 1 takes the centre.
        flip: mirror half of the images in training.
        scaling: "standard" gives each channel mean 0 and variance 1 (over 256 training images); "range" divides by
            255; "imagenet" takes ImageNet's mean and deviation, as torchvision's weights expect.
        settings: those of `SampleData`; its samples are images, and threads decode them.

    Raises:
        UserError: an image can't be read; raised when it is read.
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
        **settings: Any,
    ) -> None:
        files = source() if callable(source) else source
        super().__init__(ImageSamples(files, image_size, channels, smallest_crop, flip), **settings)
        self.samples.shift, self.samples.scale = self._fit_scaling(scaling)

    def _fit_scaling(self, scaling: str) -> tuple[Tensor, Tensor]:
        channels = self.sample_shape[0]
        if scaling == "imagenet":
            if channels != 3:
                raise UserError("scaling 'imagenet' is of 3 channels; leave out channels=1, or take 'standard'")
            mean, deviation = (
                255 * torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_DEVIATION)
            )
            return mean, deviation
        rows = self.splits["train"]
        rows = rows[:: -(-len(rows) // FITTED_IMAGES)] if scaling == "standard" else rows[:1]
        return fit_scaling(self.pool.submit(rows, None).result().to(torch.uint8), scaling)  # not scaled yet

    def inference_config(self) -> dict[str, Any]:
        """Size, channels and scaling of the images."""
        return {
            "predictor": "images",
            "feature_names": [],
            "feature_shape": self.sample_shape,
            "feature_shift": self.samples.shift.tolist(),
            "feature_scale": self.samples.scale.tolist(),
        }


class ImageSamples(Samples):
    """Image files as (C, S, S) bytes.

    Args:
        files: paths and classes.
        size: S, pixels of a side.
        channels: C, 3 for colour or 1 for grey.
        smallest_crop: smallest share of the area that a random crop has in training, from 0 to 1.
        flip: whether to mirror half of the images in training.
    """

    def __init__(self, files: ImageFiles, size: int, channels: int, smallest_crop: float, flip: bool) -> None:
        self.paths, self.targets, self.class_names = files.paths, files.targets, files.class_names
        self.predefined_splits = files.predefined_splits
        self._size, self._channels, self._smallest_crop, self._flip = size, channels, smallest_crop, flip
        self.shift, self.scale = torch.zeros(()), torch.ones(())

    def read(self, row: int, generator: torch.Generator | None) -> Tensor:
        """(C, S, S) bytes of an image; in training cropped and mirrored at random."""
        crop, flip = self._smallest_crop, self._flip
        return read_image(
            self.paths[row], self._size, self._channels, generator=generator, smallest_crop=crop, flip=flip
        )

    def scale_(self, features: Tensor) -> Tensor:
        """(value - shift) / scale, channel by channel, in place."""
        return features.sub_(self.shift.to(features.device)).div_(self.scale.to(features.device))

    def fingerprint(self, rows: Tensor) -> str:
        """By the files' names and classes: an image may be repaired in its place."""
        names = self._names(rows)
        return fingerprint(
            torch.frombuffer(bytearray(names, "utf-8"), dtype=torch.uint8), torch.from_numpy(self.targets)[rows]
        )

    def _names(self, rows: Tensor) -> str:
        root = os.path.commonpath([path.parent for path in self.paths])
        return "\0".join(os.path.relpath(self.paths[row], root).replace(os.sep, "/") for row in rows.tolist())
