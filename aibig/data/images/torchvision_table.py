"""What torchvision's datasets of labelled images are called, and how its constructors name their splits. No torch."""

from __future__ import annotations

from typing import Any

from aibig.config.registry import Entry

SplitArguments = dict[str, dict[str, Any]]  # our splits, and the arguments of torchvision's constructor for each

ALL: SplitArguments = {"train": {}}  # in one piece; it is split as the settings say
BY_FLAG: SplitArguments = {"train": {"train": True}, "test": {"train": False}}
BY_SPLIT: SplitArguments = {"train": {"split": "train"}, "test": {"split": "test"}}

IN_MEMORY: dict[str, SplitArguments] = {  # small enough to be kept as bytes
    "MNIST": BY_FLAG,
    "FashionMNIST": BY_FLAG,
    "KMNIST": BY_FLAG,
    "QMNIST": BY_FLAG,
    "EMNIST": BY_FLAG,
    "USPS": BY_FLAG,
    "SEMEION": ALL,
    "CIFAR10": BY_FLAG,
    "CIFAR100": BY_FLAG,
    "SVHN": BY_SPLIT,
    "STL10": BY_SPLIT,
}

THREE_SPLITS: SplitArguments = {"train": {"split": "train"}, "validation": {"split": "val"}, "test": {"split": "test"}}
FOR_TEST: SplitArguments = {
    "train": {"split": "train"},
    "test": {"split": "val"},
}  # the usual test split of those without one

IN_FILES: dict[str, SplitArguments] = {  # images that are decoded when they are used
    "Caltech101": ALL,
    "Caltech256": ALL,
    "Country211": {**THREE_SPLITS, "validation": {"split": "valid"}},
    "DTD": THREE_SPLITS,
    "EuroSAT": ALL,
    "FGVCAircraft": THREE_SPLITS,
    "Flowers102": THREE_SPLITS,
    "Food101": BY_SPLIT,
    "GTSRB": BY_SPLIT,
    "ImageNet": FOR_TEST,
    "Imagenette": FOR_TEST,
    "OxfordIIITPet": {"train": {"split": "trainval"}, "test": {"split": "test"}},
    "RenderedSST2": THREE_SPLITS,
    "StanfordCars": BY_SPLIT,
    "SUN397": ALL,
}


def find_entry(name: str) -> Entry | None:
    """The registry's row of a torchvision dataset.

    Args:
        name: as torchvision writes it ("CIFAR10").
    """
    home = "aibig.data.images.torchvision_datasets"
    wrapper = {
        **dict.fromkeys(IN_MEMORY, "aibig.data.arrays:ArrayData"),
        **dict.fromkeys(IN_FILES, "aibig.data.images.image_folder:ImageData"),
    }.get(name)
    signature = f"{home}:{'emnist' if name == 'EMNIST' else 'mnist'}"
    if wrapper is None:
        return None
    return Entry(name, f"{home}:{name}", family="nets", wrapper=wrapper, signature=signature)


def names() -> list[str]:
    """The names of all of them."""
    return [*IN_MEMORY, *IN_FILES]
