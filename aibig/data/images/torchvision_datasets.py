"""Torchvision's datasets of labelled images, by their own names, from files under a root. Downloads nothing.

Torchvision finds and reads the files. `vision_datasets.CIFAR10(root=...)` gives the arrays of CIFAR10,
`vision_datasets.Flowers102(root=...)` the image files of Flowers102.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aibig.config.settings import ExistingPath
from aibig.data.arrays import Arrays
from aibig.data.images.image_folder import ImageFiles
from aibig.data.images.torchvision_table import IN_FILES, IN_MEMORY, SplitArguments
from aibig.data.splits import predefined_rows
from aibig.errors import UserError
from aibig.vision import import_torchvision

WITHOUT_LOADER = {"Caltech101", "Caltech256", "GTSRB", "OxfordIIITPet"}


def __getattr__(name: str) -> Any:
    """What reads the dataset of torchvision's `name`."""
    if name == "EMNIST":
        return emnist
    if name in IN_MEMORY:
        return partial(read_arrays, name)
    if name in IN_FILES:
        return partial(read_files, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def mnist(*, root: ExistingPath) -> Arrays:
    """70,000 handwritten digits of 28x28 pixels, 10,000 of them for testing (torchvision.datasets.MNIST).

    Args:
        root: folder that holds the dataset's files, as torchvision takes it.
    """
    return read_arrays("MNIST", root=root)


def emnist(
    *,
    root: ExistingPath,
    split: Literal["byclass", "bymerge", "balanced", "letters", "digits", "mnist"] = "balanced",
) -> Arrays:
    """Handwritten letters and digits of 28x28 pixels, upright (torchvision.datasets.EMNIST has them transposed).

    Args:
        root: folder that holds the dataset's files, as torchvision takes it.
        split: which of EMNIST's selections of letters and digits.
    """
    arrays = read_arrays("EMNIST", root=root, split=split)
    arrays.features = np.asarray(arrays.features).transpose(0, 1, 3, 2)
    return arrays


def read_arrays(name: str, *, root: ExistingPath, **settings: Any) -> Arrays:
    """All splits of a dataset as bytes (rows, C, H, W), with the rows of its own test split as "test".

    Args:
        name: one of IN_MEMORY.
        root: folder that holds the dataset's files.
        settings: further arguments of torchvision's constructor.
    """
    by_split = read_splits(name, IN_MEMORY[name], root, settings)
    names = getattr(by_split["train"], "classes", [str(number) for number in range(10)])  # the others are of digits
    return Arrays(
        np.concatenate([as_channels_first(np.asarray(dataset.data)) for dataset in by_split.values()]),
        np.concatenate([_targets(dataset) for dataset in by_split.values()]),
        class_names=[name.partition(" - ")[0] for name in names],  # MNIST's "0 - zero" is "0"
        predefined_splits=predefined_rows({split: len(dataset) for split, dataset in by_split.items()}),
    )


def read_files(name: str, *, root: ExistingPath) -> ImageFiles:
    """The image files of all splits of a dataset, with those of its own test split as "test".

    Args:
        name: one of IN_FILES.
        root: folder that holds the dataset's files.
    """
    loader = {} if name in WITHOUT_LOADER else {"loader": str}  # it gives a path instead of decoding the file there
    by_split = read_splits(name, IN_FILES[name], root, loader)
    pairs = [pair for dataset in by_split.values() for pair in _paths_and_targets(dataset)]
    targets = np.array([target for _, target in pairs])
    numbers = [str(number) for number in range(targets.max() + 1)]
    names = getattr(by_split["train"], "classes", None) or getattr(by_split["train"], "categories", numbers)
    class_names = [name if isinstance(name, str) else name[0] for name in names]  # ImageNet's have several each
    predefined = predefined_rows({split: len(dataset) for split, dataset in by_split.items()})
    return ImageFiles([Path(path) for path, _ in pairs], targets, class_names, predefined)


def read_splits(name: str, arguments: SplitArguments, root: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Torchvision's datasets by split.

    Args:
        name: of torchvision's class.
        arguments: of its constructor, by split.
        root: folder that holds the dataset's files.
        settings: further arguments, for all splits.

    Raises:
        UserError: the files aren't there; it has the line that fetches them.
    """
    constructor = getattr(import_torchvision().datasets, name)
    by_split = {}
    for split, split_arguments in arguments.items():
        try:
            by_split[split] = constructor(root, **split_arguments, **settings)
        except ImportError as error:
            raise UserError(f"torchvision's {name} needs a package that is not installed: {error}") from None
        except Exception as error:  # what it raises for absent or damaged files differs from dataset to dataset
            reason = (str(error) or type(error).__name__).splitlines()[0].split(". You can use")[0].rstrip(".")
            keywords = {**split_arguments, **settings}
            written = "".join(f", {key}={value!r}" for key, value in keywords.items() if key != "loader")
            fetch = f"import torchvision as t; t.datasets.{name}({root!r}{written}, download=True)"
            downloads = name != "ImageNet"  # which asks for a signature
            raise UserError(
                f"{root}: torchvision's {name} can't be read there ({reason}); give the folder that holds its files"
                + (f', or get them once: python -c "{fetch}"' if downloads else ", as torchvision's help tells")
            ) from None
    return by_split


def as_channels_first(images: NDArray[Any]) -> NDArray[Any]:
    """Images as (rows, C, H, W).

    Args:
        images: (rows, H, W), (rows, H, W, 3) or (rows, 3, H, W).
    """
    if images.ndim == 3:
        return images[:, None]
    return images.transpose(0, 3, 1, 2) if images.shape[-1] == 3 else images


def _paths_and_targets(dataset: Any) -> Iterable[tuple[str, int]]:
    """Of each image, none of which is decoded."""
    if hasattr(dataset, "_samples"):  # GTSRB
        return list(dataset._samples)
    if hasattr(dataset, "_images"):  # OxfordIIITPet
        return zip(dataset._images, dataset._labels, strict=True)
    pairs = []
    for index in range(len(dataset)):
        path, target = dataset[index]
        if isinstance(path, Image.Image):  # Caltech's, opened and not decoded
            path.close()
            path = vars(path)["filename"]
        pairs.append((path, int(target)))
    return pairs


def _targets(dataset: Any) -> NDArray[Any]:
    targets = np.asarray(dataset.targets if hasattr(dataset, "targets") else dataset.labels)
    return (targets[:, 0] if targets.ndim == 2 else targets).astype(np.int64)  # QMNIST: class, writer, ...
