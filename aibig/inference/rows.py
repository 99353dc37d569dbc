"""Predictions for rows of numbers: classes with probabilities, or values. Knows no task and no training data."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from aibig.errors import UserError
from aibig.inference.model_folder import inference_device
from aibig.inference.modes import evaluating

ROWS_AT_ONCE = 4096


class RowsPredictor:
    """A model with its scaling and its classes' names.

    model: scores (B, C) or (M, B, C) of scaled features. facts: what model.json holds.
    """

    def __init__(self, model: nn.Module, facts: dict[str, Any]) -> None:
        self.device = inference_device()
        self.model = model.to(self.device)
        self.feature_names: list[str] = facts["feature_names"]
        self.feature_shape: list[int] = facts["feature_shape"]
        self.class_names: list[str] = facts.get("class_names", [])
        self._shift, self._scale = (torch.tensor(facts[f"feature_{one}"]) for one in ("shift", "scale"))
        self._target_shift, self._target_scale = (
            torch.tensor(facts.get(f"target_{one}", default)) for one, default in (("shift", 0.0), ("scale", 1.0))
        )

    def predict(self, features: ArrayLike) -> NDArray[np.float32]:
        """features (rows, ...) as they come -> probabilities (rows, classes), or values (rows, outputs).

        Raises UserError for rows of another shape, and for outputs that are not finite.
        """
        inputs = torch.from_numpy(np.asarray(features, dtype=np.float32))
        if list(inputs.shape[1:]) != self.feature_shape:
            raise UserError(f"rows of shape {list(inputs.shape[1:])}; the model takes {self.feature_shape}")
        with evaluating(self.model):
            parts = [self._predict(part) for part in inputs.split(ROWS_AT_ONCE)]
        predicted: NDArray[np.float32] = torch.cat(parts).numpy()
        if not np.isfinite(predicted).all():
            raise UserError("the model's outputs are not finite: it diverged in training, or the input is enormous")
        return predicted

    def _predict(self, features: Tensor) -> Tensor:
        outputs = self.model(((features - self._shift) / self._scale).to(self.device)).float().cpu()
        if self.class_names:
            outputs = outputs.softmax(-1)
        mean = outputs.mean(0) if outputs.ndim == 3 else outputs
        return mean if self.class_names else mean * self._target_scale + self._target_shift

    def predict_file(self, path: str | Path) -> Iterator[dict[str, Any]]:
        """A dict for each row of a CSV or .npy file: label and probabilities, or values.

        Raises UserError naming file, row and column of what is not a number.
        """
        for row in self.predict(self._read(Path(path))):
            yield self.named(row)

    def named(self, row: NDArray[np.float32]) -> dict[str, Any]:
        """What was predicted of one row, by name: label and probabilities, or values."""
        if self.class_names:
            named = {name: float(value) for name, value in zip(self.class_names, row, strict=True)}
            return {"label": self.class_names[int(row.argmax())], **named}
        names = ["value"] if len(row) == 1 else [f"value_{number}" for number in range(len(row))]
        return {name: float(value) for name, value in zip(names, row, strict=True)}

    def _read(self, path: Path) -> NDArray[np.float32]:
        if not path.is_file():
            raise UserError(f"{path}: no such file; give a .csv or .npy file with {self._columns()} columns")
        if path.suffix == ".npy":
            try:
                loaded: NDArray[np.float32] = np.load(path, allow_pickle=False).astype(np.float32)
            except (ValueError, EOFError) as error:
                raise UserError(f"{path}: is not an array of numbers: {error}") from None
            if loaded.ndim == 0 or loaded[0:1].size != self._columns():
                raise UserError(f"{path}: has shape {list(loaded.shape)}; give rows of {self._columns()} numbers")
            return loaded.reshape(len(loaded), *self.feature_shape)
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = [row for row in csv.reader(file) if row]
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: is not UTF-8 text (byte {error.start}); convert it to UTF-8") from None
        if not rows:
            raise UserError(f"{path}: is empty; give rows with {self._columns()} columns")
        columns: Sequence[int] = range(len(rows[0]))
        begins = 0
        if any(to_number(cell) is None for cell in rows[0]):
            begins, header = 1, rows[0]
            missing = [name for name in self.feature_names if name not in header]
            if missing:
                raise UserError(
                    f"{path}:1: has no column {missing[0]!r}; name the columns as in training, "
                    f"or give {self._columns()} columns without a header"
                )
            if self.feature_names:  # by name, whatever else the table holds
                columns = [header.index(name) for name in self.feature_names]
        if len(columns) != self._columns():
            raise UserError(f"{path}:1: has {len(columns)} columns; the model takes {self._columns()}")
        if len(rows) == begins:
            raise UserError(f"{path}: has a header and no rows")
        values = np.empty((len(rows) - begins, len(columns)), np.float32)
        for number, row in enumerate(rows[begins:]):
            for place, column in enumerate(columns):
                value = to_number(row[column]) if column < len(row) else None
                if value is None:
                    cell = repr(row[column]) if column < len(row) else "missing"
                    line = number + begins + 1
                    raise UserError(f"{path}:{line}: column {column + 1} is {cell}, which is not a finite number")
                values[number, place] = value
        return values.reshape(len(values), *self.feature_shape)

    def _columns(self) -> int:
        return math.prod(self.feature_shape)


def to_number(cell: str) -> float | None:
    """The finite number that a cell of a table holds, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
