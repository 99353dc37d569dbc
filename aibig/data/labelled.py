"""What data with targets offer to whoever learns from them, wherever they are kept. Knows no model and no loss.

B is the batch size.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aibig.errors import UserError

Inputs = tuple[Tensor, ...]  # the arguments of a model: (features,), or (tokens, lengths)

CLASSES_SHOWN = 10  # in an error


class Batches(ABC):
    """The batches of the training split, shuffled, epoch after epoch: which ones come depends on the seed alone."""

    per_epoch: int

    @abstractmethod
    def next(self) -> tuple[Inputs, Tensor, int]:
        """This rank's inputs (B, ...) and targets (B,) or (B, outputs), and the size of the whole batch."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """The position: epoch, and batch within it."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a position.

        Args:
            state: what `state_dict` returned.
        """


class LabelledData(ABC):
    """Samples with targets in splits named "train", "validation" and "test"; the last two may be missing."""

    class_names: list[str]  # by class number; empty where targets are values
    splits: Mapping[str, Any]  # by name, in any form
    fingerprint: str  # of the training split, to compare at a resume

    @property
    def notes(self) -> Sequence[str]:
        """What is worth saying of the data before training, a line each."""
        return ()

    def to(self, device: torch.device) -> None:  # noqa: B027
        """Keep the tensors on a device, if they are kept at all.

        Args:
            device: where training runs.
        """

    @abstractmethod
    def model_settings(self) -> dict[str, Any]:
        """The model settings that the data decide, under every name that models give them."""

    @abstractmethod
    def training_batches(self, seed: int, rank: int, world_size: int) -> Batches:
        """The batches of the training split, of one rank.

        Args:
            seed: decides the order, and whatever is drawn at random about a sample.
            rank: number of this process, from 0.
            world_size: number of processes that share each batch.
        """

    @abstractmethod
    def targets(self, split: str) -> Tensor:
        """(rows,) class numbers, or (rows, outputs) values.

        Args:
            split: "train", "validation" or "test".
        """

    @property
    def sizes(self) -> str:
        """How many rows each split has, in words."""
        return ", ".join(f"{len(self.targets(split)):,} {split}" for split in self.splits)

    def absent_classes(self, sample: str) -> list[str]:
        """A line for each split that lacks a class.

        Args:
            sample: what a sample is called in that line, such as "row".
        """
        lines = []
        for split in self.splits if self.class_names else ():
            counts = torch.bincount(self.targets(split).cpu(), minlength=len(self.class_names)).tolist()
            absent = [repr(name) for name, count in zip(self.class_names, counts, strict=True) if not count]
            lines += [f"the {split} split has no {sample} of class {', '.join(absent)}"] if absent else []
        return lines

    @abstractmethod
    def evaluation_batches(self, split: str) -> Iterator[tuple[Inputs, Tensor]]:
        """Inputs and targets of all of a split, in its order, in batches that fit into memory.

        Args:
            split: "train", "validation" or "test".
        """

    @abstractmethod
    def inference_config(self) -> dict[str, Any]:
        """What prediction needs to prepare raw samples, as plain values; `predictor` says which class reads it."""


def shape_settings(shape: Sequence[int]) -> dict[str, Any]:
    """The model settings that the shape of a sample decides, under every name that models give them.

    Args:
        shape: of a sample's features; three sizes are an image's (C, H, W).
    """
    images = {"in_channels": shape[0], "image_size": shape[-1]} if len(shape) == 3 else {}
    return {"in_features": math.prod(shape), **images}


def target_tensor(targets: NDArray[Any], class_names: Sequence[str]) -> Tensor:
    """Targets as a loss takes them: (rows,) class numbers as int64, or (rows, outputs) values as float32.

    Args:
        targets: (rows,) class numbers, or (rows,) or (rows, outputs) values.
        class_names: by class number; empty for values.
    """
    tensor = torch.from_numpy(np.require(targets, requirements=["C", "W"]))
    return tensor.long() if class_names else tensor.float().reshape(len(tensor), -1)


def sorted_labels(labels: Iterable[str]) -> list[str]:
    """The distinct labels: by value if all are numbers, else in alphabetical order.

    Args:
        labels: with repetitions.
    """
    names = sorted(set(labels))
    try:
        return sorted(names, key=float)
    except ValueError:
        return names


def class_numbers(
    labels: Sequence[str], class_names: Sequence[str], locate: Callable[[int], str], name: str = "the label"
) -> NDArray[np.int64]:
    """(rows,) the class number of each label.

    Args:
        labels: (rows,).
        class_names: by class number.
        locate: row number -> its place, for the error.
        name: what a label is called in the error.

    Raises:
        UserError: a label is none of the classes.
    """
    numbers = {class_name: number for number, class_name in enumerate(class_names)}
    for row, label in enumerate(labels):
        if label not in numbers:
            known = ", ".join(class_names[:CLASSES_SHOWN]) + (", ..." if len(class_names) > CLASSES_SHOWN else "")
            raise UserError(f"{locate(row)}: {name} is {label!r}, which is none of the classes of training ({known})")
    return np.array([numbers[label] for label in labels], dtype=np.int64)


def check_targets(targets: NDArray[Any], class_names: Sequence[str]) -> None:
    """Check targets before training.

    Args:
        targets: (rows,) class numbers, or (rows,) or (rows, outputs) values.
        class_names: by class number; empty for values.

    Raises:
        UserError: there is a single class; or a row's target is not finite, or not the number of a class.
    """
    if len(class_names) == 1:
        raise UserError(f"the targets have one class only, {class_names[0]!r}; give rows of other classes")
    check_finite("targets", targets)
    invalid = np.flatnonzero(~np.isin(targets, range(len(class_names))))
    if class_names and len(invalid):
        row = int(invalid[0])
        raise UserError(
            f"row {row} of the targets is {targets[row]}, but {len(class_names)} classes are numbered "
            f"from 0 to {len(class_names) - 1}"
        )


def check_finite(name: str, values: NDArray[Any]) -> None:
    """Check that all values are finite numbers.

    Args:
        name: what the values are called in the error.
        values: (rows, ...).

    Raises:
        UserError: names the row and column of what is not a finite number.
    """
    try:
        invalid = np.argwhere(~np.isfinite(values if values.dtype.kind in "biuf" else values.astype(float)))
    except (ValueError, TypeError) as error:
        raise UserError(f"the {name} are not all numbers: {error}") from None
    if len(invalid):
        column = f", column {int(invalid[0][1])}" if len(invalid[0]) > 1 else ""
        raise UserError(f"row {int(invalid[0][0])}{column} of the {name} is not a finite number")
