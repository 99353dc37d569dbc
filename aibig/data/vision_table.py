"""What torchvision's datasets of labelled images are called, and how its constructors name their parts. No torch."""

from __future__ import annotations

from typing import Any

from aibig.registry import Entry

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


def find(name: str) -> Entry | None:
    """The row of a torchvision dataset's own name ("CIFAR10")."""
    home = "aibig.data.vision_datasets"
    if name in IN_MEMORY:
        signature = f"{home}:{'emnist' if name == 'EMNIST' else 'mnist'}"
        return Entry(name, f"{home}:{name}", family="nets", into="aibig.data.arrays:ArrayData", signature=signature)
    return None


def names() -> list[str]:
    """All of them."""
    return list(IN_MEMORY)
