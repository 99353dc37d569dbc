"""What torchvision's datasets of labelled images are called, and how its constructors name their parts. No torch."""

from __future__ import annotations

from typing import Any

from aibig.config.registry import Entry

Parts = dict[str, dict[str, Any]]  # our parts, and the arguments of torchvision's constructor for each

ALL: Parts = {"train": {}}  # in one piece; it is split as the settings say
BY_FLAG: Parts = {"train": {"train": True}, "test": {"train": False}}
BY_SPLIT: Parts = {"train": {"split": "train"}, "test": {"split": "test"}}

IN_MEMORY: dict[str, Parts] = {  # small enough to be kept as bytes
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

THREE_SPLITS: Parts = {"train": {"split": "train"}, "validation": {"split": "val"}, "test": {"split": "test"}}
FOR_TEST: Parts = {"train": {"split": "train"}, "test": {"split": "val"}}  # the usual test part of those without one

IN_FILES: dict[str, Parts] = {  # pictures that are decoded when they are drawn
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
    """The row of a torchvision dataset's own name ("CIFAR10")."""
    home = "aibig.data.images.torchvision_datasets"
    signature = f"{home}:{'emnist' if name == 'EMNIST' else 'mnist'}"
    if name in IN_MEMORY:
        return Entry(name, f"{home}:{name}", family="nets", wrapper="aibig.data.arrays:ArrayData", signature=signature)
    if name in IN_FILES:
        return Entry(
            name,
            f"{home}:{name}",
            family="nets",
            wrapper="aibig.data.images.image_folder:ImageData",
            signature=signature,
        )
    return None


def names() -> list[str]:
    """All of them."""
    return [*IN_MEMORY, *IN_FILES]
