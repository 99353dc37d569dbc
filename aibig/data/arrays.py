"""Data that sit in memory as arrays: split, scaled, and sliced into batches. Knows no model and no loss.

B is the batch size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aibig.data.fingerprint import fingerprint
from aibig.data.order import EpochOrder
from aibig.errors import UserError
from aibig.settings import Fraction, NonNegativeInt, PositiveInt


@dataclass
class Arrays:
    """What a dataset is before it is split.

    features: (rows, ...) numbers. targets: (rows,) class numbers, or (rows,) or (rows, outputs) numbers.
    class_names: for classes, by number. feature_names: for columns, in order.
    """

    features: NDArray[Any]
    targets: NDArray[Any]
    class_names: list[str] = field(default_factory=list)
    feature_names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.features, self.targets = np.asarray(self.features), np.asarray(self.targets)


class ArrayData:
    """Arrays split into train, validation and test, scaled, as tensors.

    source: the arrays, or a function that returns them. batch_size: samples of a micro-batch over all ranks.
    validation_fraction, test_fraction: shares of the rows, classes in proportion. split_seed: which rows; the same
    for every seed of training. scaling: "standard" is mean 0 and variance 1 in each column, "range" divides by
    the largest absolute value of all columns; both fitted on the training part.

    Raises UserError for rows that can't be split or values that are not finite.
    """

    def __init__(
        self,
        source: Arrays | Callable[[], Arrays],
        *,
        batch_size: PositiveInt = 64,
        validation_fraction: Fraction = 0.15,
        test_fraction: Fraction = 0.2,
        split_seed: NonNegativeInt = 0,
        scaling: Literal["standard", "range", "none"] = "standard",
    ) -> None:
        arrays = source() if callable(source) else source
        if not isinstance(arrays, Arrays):
            raise UserError(f"the dataset gave a {type(arrays).__name__}; it must give aibig.data.arrays.Arrays")
        self.class_names, self.feature_names = arrays.class_names, arrays.feature_names
        self.batch_size = batch_size
        _check_rows(arrays)
        features = torch.from_numpy(np.ascontiguousarray(arrays.features)).float()
        targets = torch.from_numpy(np.ascontiguousarray(arrays.targets))
        targets = targets.long() if self.class_names else targets.float().reshape(len(targets), -1)
        rows = split_rows(arrays, validation_fraction, test_fraction, split_seed)
        self.shift, self.scale = fit_scaling(features[rows["train"]], scaling)
        features = (features - self.shift) / self.scale
        self.parts = {name: (features[index], targets[index]) for name, index in rows.items()}
        self.fingerprint = fingerprint(*self.parts["train"])

    @property
    def in_features(self) -> int:
        """Numbers in a sample."""
        return self.parts["train"][0][0].numel()

    def to(self, device: torch.device) -> None:
        """Keep the tensors on `device`, where batches are then sliced without a transfer."""
        self.parts = {name: (x.to(device), y.to(device)) for name, (x, y) in self.parts.items()}

    def training_order(self, seed: int, rank: int, world_size: int) -> EpochOrder:
        """Which rows come when, in training."""
        return EpochOrder(len(self.parts["train"][0]), self.batch_size, seed, rank, world_size)

    def training_rows(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, ...) and targets (B,) or (B, outputs) of the rows `index` of the training part."""
        features, targets = self.parts["train"]
        index = index.to(features.device, non_blocking=True)
        return features.index_select(0, index), targets.index_select(0, index)


def split_rows(arrays: Arrays, validation_fraction: float, test_fraction: float, split_seed: int) -> dict[str, Tensor]:
    """Row numbers of train, validation and test; where there are classes, each part has its share of each."""
    from sklearn.model_selection import train_test_split

    if validation_fraction + test_fraction >= 1:
        raise UserError("validation_fraction and test_fraction together leave nothing to train on")
    parts, rest = {}, np.arange(len(arrays.targets))
    for name, fraction in (("test", test_fraction), ("validation", validation_fraction)):
        count = round(fraction * len(arrays.targets))
        if not count:
            continue
        classes = arrays.targets[rest] if arrays.class_names else None
        try:
            rest, chosen = train_test_split(rest, test_size=count, random_state=split_seed, stratify=classes)
        except ValueError as error:
            raise UserError(f"the rows can't be split into training and {name} part: {error}") from None
        parts[name] = torch.from_numpy(np.sort(chosen))
    return {"train": torch.from_numpy(np.sort(rest)), **parts}


def fit_scaling(features: Tensor, scaling: str) -> tuple[Tensor, Tensor]:
    """(shift, scale) of each column of `features` (rows, ...), so that (x - shift) / scale is scaled.

    A column that never changes is shifted only.
    """
    if scaling == "none":
        return torch.zeros(()), torch.ones(())
    if scaling == "range":
        return torch.zeros(()), features.abs().max().clamp_min(1e-12)
    values = features.cpu().double()
    spread = values.std(0, correction=0).float()
    return values.mean(0).float(), torch.where(spread > 0, spread, torch.ones(()))


def _check_rows(arrays: Arrays) -> None:
    if not len(arrays.features):
        raise UserError("there are no rows")
    if len(arrays.features) != len(arrays.targets):
        raise UserError(f"{len(arrays.features)} rows of features do not match {len(arrays.targets)} targets")
    for what, values in (("features", arrays.features), ("targets", arrays.targets)):
        try:
            bad = np.argwhere(~np.isfinite(values.astype(float)))
        except (ValueError, TypeError) as error:
            raise UserError(f"the {what} are not all numbers: {error}") from None
        if len(bad):
            column = f", column {int(bad[0][1])}" if len(bad[0]) > 1 else ""
            raise UserError(f"row {int(bad[0][0])}{column} of the {what} is not a finite number")
    strange = np.flatnonzero(~np.isin(arrays.targets, range(len(arrays.class_names))))
    if arrays.class_names and len(strange):
        row = int(strange[0])
        raise UserError(
            f"row {row} of the targets is {arrays.targets[row]}, but {len(arrays.class_names)} classes are numbered "
            f"from 0 to {len(arrays.class_names) - 1}"
        )
