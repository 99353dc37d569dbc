"""Data that are in memory as arrays: split, scaled, and sliced into batches. Knows no model and no loss.

B is the batch size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aibig.config.settings import Fraction, NonNegativeFloat, NonNegativeInt, PositiveInt
from aibig.data.fingerprint import fingerprint
from aibig.data.images.augmentation import Augmentation
from aibig.data.labelled import (
    Batches,
    Inputs,
    LabelledData,
    check_finite,
    check_targets,
    shape_settings,
    target_tensor,
)
from aibig.data.order import EpochOrder
from aibig.data.splits import split_rows
from aibig.data.tables.columns import Columns, Table
from aibig.errors import UserError

EVALUATION_BATCH_ROWS = 4096
EVALUATION_BATCH_NUMBERS = 1_000_000


@dataclass
class Arrays:
    """A dataset before it is split."""

    features: NDArray[Any] | Table  # (rows, ...) numbers; images as bytes (rows, C, H, W); or an unfitted table
    targets: NDArray[Any]  # (rows,) class numbers, or (rows,) or (rows, outputs) values
    class_names: list[str] = field(default_factory=list)  # by class number; empty for values
    feature_names: list[str] = field(default_factory=list)  # of the columns
    target_names: list[str] = field(default_factory=list)  # of the columns
    groups: NDArray[Any] | None = None  # (rows,); the rows of a group stay in one split
    times: NDArray[Any] | None = None  # (rows,); the latest rows test
    predefined_splits: dict[str, NDArray[Any]] = field(default_factory=dict)  # row numbers, as `split_rows` takes them

    def __post_init__(self) -> None:
        if not isinstance(self.features, Table):
            self.features = np.asarray(self.features)
        self.targets = np.asarray(self.targets)


class ArrayData(LabelledData):
    """Arrays split into train, validation and test, scaled, as tensors.

    Args:
        source: the arrays, or a function that returns them.
        batch_size: rows of a micro-batch over all ranks.
        validation_fraction: share of the rows for validation; ignored if the dataset has a validation split.
        test_fraction: share of the rows for the test; ignored if the dataset has a test split.
        split: how rows are divided: "stratified" by class, "random", "grouped" by group, or "time", which tests on the
            latest rows; "auto" takes time or groups if the data have them, else stratifies classes.
        split_seed: decides which rows go where; independent of the training seed.
        scaling: "standard" gives each column, or channel, mean 0 and variance 1; "range" divides by the largest
            absolute value (bytes by 255); "none". Fitted on the training split.
        shift_pixels: for images: shift each at random in training, by at most so many pixels in each direction.
        flip: for images: mirror half of them in training.
        rotate_degrees: for images: rotate each at random in training, by at most so many degrees either way.

    Raises:
        UserError: the rows can't be split, or a value is not finite.
    """

    def __init__(
        self,
        source: Arrays | Callable[[], Arrays],
        *,
        batch_size: PositiveInt = 64,
        validation_fraction: Fraction = 0.15,
        test_fraction: Fraction = 0.2,
        split: Literal["auto", "stratified", "random", "grouped", "time"] = "auto",
        split_seed: NonNegativeInt = 0,
        scaling: Literal["standard", "range", "none"] = "standard",
        shift_pixels: NonNegativeInt = 0,
        flip: bool = False,
        rotate_degrees: NonNegativeFloat = 0.0,
    ) -> None:
        arrays = source() if callable(source) else source
        if not isinstance(arrays, Arrays):
            raise UserError(f"the dataset gave a {type(arrays).__name__}; it must give aibig.data.arrays.Arrays")
        self.class_names, self.feature_names = arrays.class_names, arrays.feature_names
        self.batch_size = batch_size
        self.target_names = arrays.target_names
        _check_rows(arrays)
        targets = target_tensor(arrays.targets, self.class_names)
        rows = split_rows(
            *(len(targets), validation_fraction, test_fraction, split_seed),
            method=split,
            classes=arrays.targets if arrays.class_names else None,
            class_names=arrays.class_names,
            groups=arrays.groups,
            times=arrays.times,
            predefined=arrays.predefined_splits,
        )
        self.columns: Columns | None = None  # of a table
        if isinstance(arrays.features, Table):
            self.columns = arrays.features.fit(rows["train"], scaling)
            values = self.columns.encode(arrays.features.frame, arrays.features.locate)
            self.feature_names, scaling = self.columns.names, "none"  # encoded, and thereby scaled
        else:
            values = arrays.features
        features = torch.from_numpy(np.require(values, requirements=["C", "W"]))
        features = features if features.dtype == torch.uint8 else features.float()  # bytes stay bytes until used
        self.augmentation = Augmentation(shift_pixels, flip, rotate_degrees)
        if self.augmentation and not (features.dtype == torch.uint8 and features.ndim == 4):
            raise UserError(
                f"shift_pixels, flip and rotate_degrees are for images of bytes (rows, C, H, W); these are "
                f"{features.dtype} of shape {list(features.shape)}".replace("torch.", "")
            )
        self.shift, self.scale = fit_scaling(features[rows["train"]], scaling)
        if features.dtype != torch.uint8:
            features = self._scaled(features)
        self.splits = {name: (features[index], targets[index]) for name, index in rows.items()}
        self.fingerprint = fingerprint(*self.splits["train"])

    @property
    def notes(self) -> list[str]:
        """For a table the rows of each split and what its columns were taken for; and the classes a split lacks."""
        lines = []
        if self.columns is not None:
            lines += [f"rows: {self.sizes}", *self.columns.notes()]
            lines += [note] if (note := self.columns.unseen_note()) else []
        return lines + self.absent_classes("row")

    def _scaled(self, features: Tensor) -> Tensor:
        return (features - self.shift) / self.scale

    def _model_inputs(self, features: Tensor) -> Tensor:
        """Features as the model takes them: bytes become scaled numbers."""
        return self._scaled(features.float()) if features.dtype == torch.uint8 else features

    @property
    def sample_shape(self) -> list[int]:
        """The shape of a sample's features."""
        return list(self.splits["train"][0].shape[1:])

    def to(self, device: torch.device) -> None:
        """Keep the tensors on `device`, where batches are then sliced without a transfer."""
        self.splits = {name: (x.to(device), y.to(device)) for name, (x, y) in self.splits.items()}
        self.shift, self.scale = self.shift.to(device), self.scale.to(device)

    def model_settings(self) -> dict[str, Any]:
        """in_features; for images (C, H, W) in_channels and image_size too."""
        return shape_settings(self.sample_shape)

    def training_batches(self, seed: int, rank: int, world_size: int) -> ArrayBatches:
        """Slices of the training split in a shuffled order."""
        return ArrayBatches(self, EpochOrder(len(self.splits["train"][0]), self.batch_size, seed, rank, world_size))

    def training_rows(self, index: Tensor, seed: int | None = None) -> tuple[Tensor, Tensor]:
        """Features (B, ...) and targets (B,) or (B, outputs) of rows of the training split.

        Args:
            index: (B,) row numbers within the training split.
            seed: of the augmentation, if images are augmented; None leaves it out.
        """
        features, targets = self.splits["train"]
        index = index.to(features.device, non_blocking=True)
        features = features.index_select(0, index)
        if self.augmentation and seed is not None:
            augmented = self.augmentation(features, torch.Generator().manual_seed(seed))
            return self._scaled(augmented.float()), targets.index_select(0, index)
        return self._model_inputs(features), targets.index_select(0, index)

    def targets(self, split: str) -> Tensor:
        """(rows,) class numbers, or (rows, outputs) values."""
        return self.splits[split][1]

    def evaluation_batches(self, split: str) -> Iterator[tuple[Inputs, Tensor]]:
        """All of a split in batches of `EVALUATION_BATCH_ROWS`, fewer where rows are large."""
        features, targets = self.splits[split]
        limit = EVALUATION_BATCH_NUMBERS // max(1, math.prod(self.sample_shape))
        size = max(1, min(EVALUATION_BATCH_ROWS, limit))
        for batch, batch_targets in zip(features.split(size), targets.split(size), strict=True):
            yield (self._model_inputs(batch),), batch_targets

    def inference_config(self) -> dict[str, Any]:
        """Names, shape and scaling of the columns; square images of bytes may come as image files too."""
        channels, *sides = self.sample_shape if len(self.sample_shape) == 3 else (0,)
        are_images = self.splits["train"][0].dtype == torch.uint8 and channels in (1, 3) and sides[0] == sides[1]
        columns = {} if self.columns is None else {"columns": self.columns.to_dict()}
        return {
            "predictor": "images" if are_images else "rows",
            **columns,
            "feature_names": self.feature_names,
            "target_names": self.target_names,
            "feature_shape": self.sample_shape,
            "feature_shift": self.shift.tolist(),
            "feature_scale": self.scale.tolist(),
        }


class ArrayBatches(Batches):
    """Slices of arrays in a shuffled order.

    Args:
        data: what is sliced.
        order: of the rows of its training split.
    """

    def __init__(self, data: ArrayData, order: EpochOrder) -> None:
        self._data, self._order = data, order
        self.per_epoch = order.batches_per_epoch

    def next(self) -> tuple[Inputs, Tensor, int]:
        """Features (B, ...), targets, and the size of the whole batch."""
        index, size = self._order.next()
        features, targets = self._data.training_rows(index, self._order.seed_of_batch("augmentation"))
        return (features,), targets, size

    def state_dict(self) -> dict[str, Any]:
        """The position: epoch, and batch within it."""
        return self._order.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a position."""
        self._order.load_state_dict(state)


def fit_scaling(features: Tensor, scaling: str) -> tuple[Tensor, Tensor]:
    """(shift, scale), so that (features - shift) / scale is scaled.

    Args:
        features: (rows, ...) of the training split.
        scaling: "standard" gives each column, or channel of images (rows, C, H, W), mean 0 and variance 1; a constant
            column is only shifted. "range" divides by the largest absolute value of all, bytes by 255. "none".
    """
    if scaling == "none":
        return torch.zeros(()), torch.ones(())
    if scaling == "range":
        largest = torch.tensor(255.0) if features.dtype == torch.uint8 else features.abs().max().clamp_min(1e-12)
        return torch.zeros(()), largest
    if features.ndim == 4:
        moments = [_moments(features[:, channel]) for channel in range(features.shape[1])]
        shift, deviation = (torch.tensor(values).view(-1, 1, 1) for values in zip(*moments, strict=True))
    else:
        numbers = features.cpu().double()
        shift, deviation = numbers.mean(0).float(), numbers.std(0, correction=0).float()
    return shift, torch.where(deviation > 0, deviation, torch.ones(()))


def _moments(values: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of all values; bytes are counted, not widened."""
    if values.dtype != torch.uint8:
        return values.double().mean().item(), values.double().std(correction=0).item()
    counts = torch.bincount(values.flatten(), minlength=256).double() / values.numel()
    levels = torch.arange(256, dtype=torch.float64)
    mean = (counts * levels).sum()
    return mean.item(), (counts * (levels - mean).square()).sum().sqrt().item()


def _check_rows(arrays: Arrays) -> None:
    if not len(arrays.features):
        raise UserError("there are no rows")
    if len(arrays.features) != len(arrays.targets):
        raise UserError(f"{len(arrays.features)} rows of features do not match {len(arrays.targets)} targets")
    check_targets(arrays.targets, arrays.class_names)
    if isinstance(arrays.features, Table):  # checked cell by cell when it is encoded
        return
    if arrays.features.ndim < 2:
        raise UserError("the features are one number a row without columns; give them as (rows, 1)")
    check_finite("features", arrays.features)
    width = math.prod(arrays.features.shape[1:])
    if arrays.feature_names and len(arrays.feature_names) != width:
        raise UserError(
            f"feature_names has {len(arrays.feature_names)} names for {width} columns; give one for each, or none"
        )
