"""Torchvision's datasets of labelled images, by their own names, from files under a root. Downloads nothing.

Torchvision finds and reads the files. `vision_datasets.CIFAR10(root=...)` gives the arrays of CIFAR10.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import numpy as np

from aibig.data.arrays import Arrays
from aibig.data.vision_table import IN_MEMORY, Parts
from aibig.errors import UserError
from aibig.settings import ExistingPath
from aibig.vision import import_torchvision


def __getattr__(name: str) -> Any:
    """What reads the dataset of torchvision's `name`."""
    if name == "EMNIST":
        return emnist
    if name in IN_MEMORY:
        return partial(read_arrays, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def mnist(*, root: ExistingPath) -> Arrays:
    """70,000 handwritten digits of 28x28 pixels, 10,000 of them for testing (torchvision.datasets.MNIST)."""
    return read_arrays("MNIST", root=root)


def emnist(
    *,
    root: ExistingPath,
    split: Literal["byclass", "bymerge", "balanced", "letters", "digits", "mnist"] = "balanced",
) -> Arrays:
    """Handwritten letters and digits of 28x28 pixels, upright (torchvision.datasets.EMNIST, which has them lying)."""
    arrays = read_arrays("EMNIST", root=root, split=split)
    arrays.features = arrays.features.transpose(0, 1, 3, 2)
    return arrays


def read_arrays(name: str, *, root: ExistingPath, **settings: Any) -> Arrays:
    """All parts of one of IN_MEMORY as bytes (rows, C, H, W), with the rows of its own test part as "test"."""
    read = read_parts(name, IN_MEMORY[name], root, settings)
    images = [as_channels_first(np.asarray(one.data)) for one in read.values()]
    targets = [_targets(one) for one in read.values()]
    ends = np.cumsum([len(one) for one in targets])
    rows = {part: np.arange(end - len(one), end) for part, end, one in zip(read, ends, targets, strict=True)}
    first = next(iter(read.values()))
    names = getattr(first, "classes", [str(number) for number in range(10)])  # the others are of digits
    return Arrays(
        np.concatenate(images),
        np.concatenate(targets),
        class_names=[name.partition(" - ")[0] for name in names],  # MNIST's "0 - zero" is "0"
        given={part: index for part, index in rows.items() if part != "train"},
    )


def read_parts(name: str, parts: Parts, root: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Torchvision's datasets by part. Raises UserError with the line that fetches the files if they aren't there."""
    make = getattr(import_torchvision().datasets, name)
    try:
        return {part: make(root, **chosen, **settings) for part, chosen in parts.items()}
    except ImportError as error:
        raise UserError(f"torchvision's {name} needs a package that is not installed: {error}") from None
    except Exception as error:  # what it raises for files that are absent or damaged differs from dataset to dataset
        reason = (str(error) or type(error).__name__).splitlines()[0].split(". You can use")[0].rstrip(".")
        given = "".join(f", {key}={value!r}" for key, value in settings.items())
        fetch = f"import torchvision as t; t.datasets.{name}({root!r}{given}, download=True)"
        raise UserError(
            f"{root}: torchvision's {name} can't be read there ({reason}); give the folder that its download made, "
            f"or get it once: python -c '{fetch}'"
        ) from None


def as_channels_first(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(rows, H, W), (rows, H, W, 3) or (rows, 3, H, W) -> (rows, C, H, W)."""
    if images.ndim == 3:
        return images[:, None]
    return images.transpose(0, 3, 1, 2) if images.shape[-1] == 3 else images


def _targets(dataset: Any) -> np.ndarray[Any, Any]:
    targets = np.asarray(dataset.targets if hasattr(dataset, "targets") else dataset.labels)
    return (targets[:, 0] if targets.ndim == 2 else targets).astype(np.int64)  # QMNIST: class, writer, ...
