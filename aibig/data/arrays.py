"""Data that sit in memory as arrays: split, scaled, and sliced into batches. Knows no model and no loss.

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
from aibig.data.labelled import Batches, Inputs, LabelledData, check_finite, check_targets, shape_settings
from aibig.data.order import EpochOrder
from aibig.data.splits import Split, split_rows
from aibig.data.tables.columns import Columns, Table
from aibig.errors import UserError

ROWS_AT_ONCE = 4096  # of an evaluation
NUMBERS_AT_ONCE = 1_000_000


@dataclass
class Arrays:
    """What a dataset is before it is split.

    features: (rows, ...) numbers; images as bytes (rows, C, H, W); or a table whose columns are still to be fitted.
    targets: (rows,) class numbers, or (rows,) or (rows, outputs) numbers.
    class_names: for classes, by number. feature_names, target_names: for columns, in order. groups, times: (rows,)
    each; the rows of a group stay together, the latest rows test. given: the rows of parts that are decided already
    (see `aibig.data.splits.split_rows`).
    """

    features: NDArray[Any] | Table
    targets: NDArray[Any]
    class_names: list[str] = field(default_factory=list)
    feature_names: list[str] = field(default_factory=list)
    target_names: list[str] = field(default_factory=list)
    groups: NDArray[Any] | None = None
    times: NDArray[Any] | None = None
    given: dict[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.features, Table):
            self.features = np.asarray(self.features)
        self.targets = np.asarray(self.targets)


class ArrayData(LabelledData):
    """Arrays split into train, validation and test, scaled, as tensors.

    source: the arrays, or a function that returns them. batch_size: samples of a micro-batch over all ranks.
    validation_fraction, test_fraction: shares of the rows. split: by which rule, see `split_rows`. split_seed: which
    rows; the same for every seed of training. scaling: see `fit_scaling` and, for tables, `Columns.fit`; fitted on
    the training part only. shift_pixels, flip, rotate_degrees: for training on images, see `Augmentation`.

    Raises UserError for rows that can't be split or values that are not finite.
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
        targets = torch.from_numpy(np.require(arrays.targets, requirements=["C", "W"]))
        targets = targets.long() if self.class_names else targets.float().reshape(len(targets), -1)
        rows = _split(arrays, validation_fraction, test_fraction, split_seed, split)
        self.columns: Columns | None = None  # of a table
        if isinstance(arrays.features, Table):
            self.columns = arrays.features.fit(rows["train"], scaling)
            values = self.columns.encode(arrays.features.frame, arrays.features.where)
            self.feature_names, scaling = self.columns.names, "none"  # encoded, and thereby scaled
        else:
            values = arrays.features
        features = torch.from_numpy(np.require(values, requirements=["C", "W"]))
        features = features if features.dtype == torch.uint8 else features.float()  # bytes stay bytes until drawn
        self.augmentation = Augmentation(shift_pixels, flip, rotate_degrees)
        if self.augmentation and not (features.dtype == torch.uint8 and features.ndim == 4):
            raise UserError(
                f"shift_pixels, flip and rotate_degrees are for images of bytes (rows, C, H, W); these are "
                f"{features.dtype} of shape {list(features.shape)}".replace("torch.", "")
            )
        self.shift, self.scale = fit_scaling(features[rows["train"]], scaling)
        if features.dtype != torch.uint8:
            features = self._scaled(features)
        self.parts = {name: (features[index], targets[index]) for name, index in rows.items()}
        self.fingerprint = fingerprint(*self.parts["train"])

    @property
    def notes(self) -> list[str]:
        """Of a table, the rows of each part and what columns were taken for; and which classes a part is without."""
        lines = []
        if self.columns is not None:
            lines += [f"rows: {self.sizes}", *self.columns.notes()]
            lines += [note] if (note := self.columns.unseen_note()) else []
        return lines + self.absent_classes("row")

    def _scaled(self, features: Tensor) -> Tensor:
        return (features - self.shift) / self.scale

    def _prepared(self, features: Tensor) -> Tensor:
        """Features as the model takes them: bytes become scaled numbers."""
        return self._scaled(features.float()) if features.dtype == torch.uint8 else features

    @property
    def sample_shape(self) -> list[int]:
        """The shape of a sample's features."""
        return list(self.parts["train"][0].shape[1:])

    def to(self, device: torch.device) -> None:
        """Keep the tensors on `device`, where batches are then sliced without a transfer."""
        self.parts = {name: (x.to(device), y.to(device)) for name, (x, y) in self.parts.items()}
        self.shift, self.scale = self.shift.to(device), self.scale.to(device)

    def model_settings(self) -> dict[str, Any]:
        """in_features; for images (C, H, W) in_channels and image_size too."""
        return shape_settings(self.sample_shape)

    def training_batches(self, seed: int, rank: int, world_size: int) -> ArrayBatches:
        """Slices of the training part in a shuffled order."""
        return ArrayBatches(self, EpochOrder(len(self.parts["train"][0]), self.batch_size, seed, rank, world_size))

    def training_rows(self, index: Tensor, seed: int | None = None) -> tuple[Tensor, Tensor]:
        """Features (B, ...) and targets (B,) or (B, outputs) of the rows `index` of the training part.

        Images are augmented, if that is set, by what `seed` draws.
        """
        features, targets = self.parts["train"]
        index = index.to(features.device, non_blocking=True)
        chosen = features.index_select(0, index)
        if self.augmentation and seed is not None:
            moved = self.augmentation(chosen, torch.Generator().manual_seed(seed))
            return self._scaled(moved.float()), targets.index_select(0, index)
        return self._prepared(chosen), targets.index_select(0, index)

    def targets(self, split: str) -> Tensor:
        """(rows,) class numbers, or (rows, outputs) values, of a part."""
        return self.parts[split][1]

    def evaluation_batches(self, split: str) -> Iterator[tuple[Inputs, Tensor]]:
        """All of a part, `ROWS_AT_ONCE` rows at a time, fewer where rows are large."""
        features, targets = self.parts[split]
        at_once = max(1, min(ROWS_AT_ONCE, NUMBERS_AT_ONCE // max(1, math.prod(self.sample_shape))))
        for some, some_targets in zip(features.split(at_once), targets.split(at_once), strict=True):
            yield (self._prepared(some),), some_targets

    def inference_facts(self) -> dict[str, Any]:
        """Names and shape of the columns, and their scaling; square images of bytes may come as pictures too."""
        channels, *sides = self.sample_shape if len(self.sample_shape) == 3 else (0,)
        pictures = self.parts["train"][0].dtype == torch.uint8 and channels in (1, 3) and sides[0] == sides[1]
        columns = {} if self.columns is None else {"columns": self.columns.to_dict()}
        return {
            "predictor": "images" if pictures else "rows",
            **columns,
            "feature_names": self.feature_names,
            "target_names": self.target_names,
            "feature_shape": self.sample_shape,
            "feature_shift": self.shift.tolist(),
            "feature_scale": self.scale.tolist(),
        }


class ArrayBatches(Batches):
    """Slices of arrays in a shuffled order."""

    def __init__(self, data: ArrayData, order: EpochOrder) -> None:
        self._data, self._order = data, order
        self.per_epoch = order.batches_per_epoch

    def next(self) -> tuple[Inputs, Tensor, int]:
        """Features (B, ...) and targets."""
        index, size = self._order.next()
        features, targets = self._data.training_rows(index, self._order.seed_of_batch("augmentation"))
        return (features,), targets, size

    def state_dict(self) -> dict[str, Any]:
        """Where in which epoch."""
        return self._order.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._order.load_state_dict(state)


def _split(
    arrays: Arrays, validation_fraction: float, test_fraction: float, seed: int, split: Split
) -> dict[str, NDArray[np.int64]]:
    classes = arrays.targets if arrays.class_names else None
    return split_rows(
        len(arrays.targets),
        validation_fraction,
        test_fraction,
        seed,
        split=split,
        classes=classes,
        class_names=arrays.class_names,
        groups=arrays.groups,
        times=arrays.times,
        given=arrays.given,
    )


def fit_scaling(features: Tensor, scaling: str) -> tuple[Tensor, Tensor]:
    """(shift, scale) of `features` (rows, ...), so that (features - shift) / scale is scaled.

    "standard": mean 0 and variance 1 of each column, of each channel of images (rows, C, H, W); a column that never
    changes is shifted only. "range": divided by the largest absolute value of all, bytes by 255.
    """
    if scaling == "none":
        return torch.zeros(()), torch.ones(())
    if scaling == "range":
        largest = torch.tensor(255.0) if features.dtype == torch.uint8 else features.abs().max().clamp_min(1e-12)
        return torch.zeros(()), largest
    if features.ndim == 4:
        moments = [_moments(features[:, channel]) for channel in range(features.shape[1])]
        shift, spread = (torch.tensor(one).view(-1, 1, 1) for one in zip(*moments, strict=True))
    else:
        values = features.cpu().double()
        shift, spread = values.mean(0).float(), values.std(0, correction=0).float()
    return shift, torch.where(spread > 0, spread, torch.ones(()))


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
