"""What data with targets offer to whoever learns from them, wherever they lie. Knows no model and no loss.

B is the batch size.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aibig.errors import UserError

Inputs = tuple[Tensor, ...]  # the arguments of a model: (features,), or (tokens, lengths)


class Batches(ABC):
    """The batches of the training part, shuffled, epoch after epoch: which ones come depends on the seed alone."""

    per_epoch: int

    @abstractmethod
    def next(self) -> tuple[Inputs, Tensor, int]:
        """This rank's inputs (B, ...) and targets (B,) or (B, outputs), and the size of the whole batch."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Where in which epoch."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""


class LabelledData(ABC):
    """Samples with targets in parts named "train", "validation" and "test"; the last two may be missing."""

    class_names: list[str]  # by class number; empty where targets are values
    parts: Mapping[str, Any]  # by name, however they are kept
    fingerprint: str  # whether the training part is the one that a run began with

    @property
    def notes(self) -> Sequence[str]:
        """What is worth saying of the data before training, a line each."""
        return ()

    def to(self, device: torch.device) -> None:  # noqa: B027
        """Keep the tensors on `device`, if they are kept at all."""

    @abstractmethod
    def model_settings(self) -> dict[str, Any]:
        """What the data decide of a model's settings, under every name that models give them."""

    @abstractmethod
    def training_batches(self, seed: int, rank: int, world_size: int) -> Batches:
        """The batches of the training part, of one rank."""

    @abstractmethod
    def targets(self, split: str) -> Tensor:
        """(rows,) class numbers, or (rows, outputs) values, of a part."""

    @property
    def sizes(self) -> str:
        """How many rows each part has, in words."""
        return ", ".join(f"{len(self.targets(name)):,} {name}" for name in self.parts)

    def absent_classes(self, row: str) -> list[str]:
        """A line for each part that has no row (called `row`) of some class."""
        lines = []
        for name in self.parts if self.class_names else ():
            counts = torch.bincount(self.targets(name).cpu(), minlength=len(self.class_names)).tolist()
            absent = [repr(one) for one, count in zip(self.class_names, counts, strict=True) if not count]
            lines += [f"the {name} part has no {row} of class {', '.join(absent)}"] if absent else []
        return lines

    @abstractmethod
    def evaluation_batches(self, split: str) -> Iterator[tuple[Inputs, Tensor]]:
        """All of a part, in its order: inputs and targets, as much at once as fits."""

    @abstractmethod
    def inference_facts(self) -> dict[str, Any]:
        """What prediction needs to prepare raw samples, as plain values; `predictor` says which class reads it."""


def shape_settings(shape: Sequence[int]) -> dict[str, Any]:
    """What the shape of a sample's features decides of a model, under every name that models give it."""
    images = {"in_channels": shape[0], "image_size": shape[-1]} if len(shape) == 3 else {}
    return {"in_features": math.prod(shape), **images}


def check_targets(targets: NDArray[Any], class_names: Sequence[str]) -> None:
    """Raise UserError for a single class, and for a row's target that is not finite, or the number of no class."""
    if len(class_names) == 1:
        raise UserError(f"the targets have one class only, {class_names[0]!r}; give rows of other classes")
    check_finite("targets", targets)
    strange = np.flatnonzero(~np.isin(targets, range(len(class_names))))
    if class_names and len(strange):
        row = int(strange[0])
        raise UserError(
            f"row {row} of the targets is {targets[row]}, but {len(class_names)} classes are numbered "
            f"from 0 to {len(class_names) - 1}"
        )


def check_finite(what: str, values: NDArray[Any]) -> None:
    """Raise UserError naming the row of what is not a finite number."""
    try:
        bad = np.argwhere(~np.isfinite(values if values.dtype.kind in "biuf" else values.astype(float)))
    except (ValueError, TypeError) as error:
        raise UserError(f"the {what} are not all numbers: {error}") from None
    if len(bad):
        column = f", column {int(bad[0][1])}" if len(bad[0]) > 1 else ""
        raise UserError(f"row {int(bad[0][0])}{column} of the {what} is not a finite number")
