"""Predictions for rows of a table or of numbers: classes with probabilities, or values. Knows no task."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from aibig.data.tables.columns import Column, Columns, Where, frame_place
from aibig.errors import UserError
from aibig.inference.named_rows import named_rows
from aibig.layers.modes import evaluating
from aibig.metrics.outcomes import ClassificationOutcome, Outcome, RegressionOutcome
from aibig.pretrained.model_folder import inference_device

if TYPE_CHECKING:
    import pandas as pd

ROWS_AT_ONCE = 4096  # through the model
ROWS_READ_AT_ONCE = 65_536  # of a file


class RowsPredictor:
    """A model with the preparation of its features and its classes' names.

    model: scores (B, C) or (M, B, C) of prepared features. facts: what model.json holds.
    """

    def __init__(self, model: nn.Module, facts: dict[str, Any]) -> None:
        self.device = inference_device()
        self.model = model.to(self.device)
        self.feature_names: list[str] = facts["feature_names"]
        self.feature_shape: list[int] = facts["feature_shape"]
        self.target_names: list[str] = facts.get("target_names", [])
        self.class_names: list[str] = facts.get("class_names", [])
        self.is_table = "columns" in facts
        names: list[Any] = self.feature_names or list(range(1, self._width() + 1))
        numbers = Columns([Column(name) for name in names])  # as they are: scaled below
        self.columns = Columns.from_dict(facts["columns"]) if self.is_table else numbers
        self._shift, self._scale = (torch.tensor(facts[f"feature_{one}"]) for one in ("shift", "scale"))
        self._target_shift, self._target_scale = (
            torch.tensor(facts.get(f"target_{one}", default)) for one, default in (("shift", 0.0), ("scale", 1.0))
        )

    def predict(self, features: ArrayLike | pd.DataFrame) -> NDArray[np.float32]:
        """Rows as they come -> probabilities (rows, classes), or values (rows, outputs).

        features: (rows, ...) numbers, or a DataFrame with the columns of training; for a model of a table, only that.

        Raises UserError for rows of another shape, and for outputs that are not finite.
        """
        if hasattr(features, "columns") and (self.is_table or self.feature_names):
            table: Any = features
            frame = table.set_axis([str(name) for name in table.columns], axis=1)
            return self._predict_prepared(self._prepared(self.columns, frame, frame_place(frame)))
        if self.is_table:
            raise UserError(f"the model takes a DataFrame with the columns {', '.join(self.columns.names)}")
        inputs = torch.from_numpy(np.asarray(features, dtype=np.float32))
        if list(inputs.shape[1:]) != self.feature_shape:
            raise UserError(f"rows of shape {list(inputs.shape[1:])}; the model takes {self.feature_shape}")
        return self._predict_prepared(inputs)

    def _predict_prepared(self, inputs: Tensor) -> NDArray[np.float32]:
        with evaluating(self.model):
            parts = [self._predict_some(part) for part in inputs.split(ROWS_AT_ONCE)]
        predicted: NDArray[np.float32] = torch.cat(parts).numpy()
        if not np.isfinite(predicted).all():
            raise UserError("the model's outputs are not finite: it diverged in training, or the input is enormous")
        return predicted

    def _predict_some(self, features: Tensor) -> Tensor:
        outputs = self.model(((features - self._shift) / self._scale).to(self.device)).float().cpu()
        if self.class_names:
            outputs = outputs.softmax(-1)
        mean = outputs.mean(0) if outputs.ndim == 3 else outputs
        return mean if self.class_names else mean * self._target_scale + self._target_shift

    def predict_file(self, path: str | Path) -> Iterator[dict[str, Any]]:
        """A dict for each row of a CSV or .npy file: label and probabilities, or values.

        A CSV file is read, predicted and given out part by part. Its columns are found by name, whatever else it
        holds; a file of numbers alone needs no header. Raises UserError naming file, row and column of what does
        not fit.
        """
        path = Path(path)
        batches = [self.predict(self._array(path))] if path.suffix == ".npy" else self._predicted_chunks(path)
        for predicted in batches:
            yield from named_rows(predicted, self.class_names)

    @property
    def note(self) -> str:
        """What to say of the rows so far: categories that training did not have; "" where there is nothing."""
        return self.columns.unseen_note()

    def outcome(self, path: str | Path) -> Outcome:
        """What the model makes of a file, or folder, that holds the targets too; see `labelled`."""
        predictions, targets = self.labelled(path)
        if self.class_names:
            return ClassificationOutcome(predictions, targets, self.class_names)
        return RegressionOutcome(predictions, targets)

    def labelled(self, path: str | Path) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """What is predicted for a CSV file, (rows, classes) or (rows, outputs), and the targets that it holds.

        Targets are class numbers (rows,), or values (rows, outputs), of the columns named as in training ("target"
        where those had no name). Raises UserError where one is missing, or holds a class that training had not.
        """
        from aibig.data.tables.table import class_numbers, target_values

        outputs = 1 if self.class_names else self._target_shift.numel()
        names = self.target_names or (["target"] if outputs == 1 else [f"target_{one}" for one in range(outputs)])
        predictions, targets = [], []
        for columns, frame, where in self._chunks(Path(path), names):
            predictions.append(self._predict_prepared(self._prepared(columns, frame, where)))
            if self.class_names:
                targets.append(class_numbers(frame[names[0]], self.class_names, names[0], where))
            else:
                targets.append(np.stack([target_values(frame[name], name, where) for name in names], 1))
        return np.concatenate(predictions), np.concatenate(targets)

    def _predicted_chunks(self, path: Path) -> Iterator[NDArray[np.float32]]:
        for columns, frame, where in self._chunks(path):
            yield self._predict_prepared(self._prepared(columns, frame, where))

    def _prepared(self, columns: Columns, frame: Any, where: Where) -> Tensor:
        return torch.from_numpy(columns.encode(frame, where)).reshape(len(frame), *self.feature_shape)

    def _chunks(self, path: Path, targets: Sequence[str] = ()) -> Iterator[tuple[Columns, pd.DataFrame, Where]]:
        """The rows of a CSV file, part by part, with the columns as this file names them, and where each row stands."""
        from aibig.data.tables.table import line_of, read_chunks, read_layout

        layout = read_layout(path)
        has_header, names, columns = self._names(path, layout.header, targets)
        as_text = [one.name for one in columns.columns if one.kind != "number"]
        before = 0
        for frame in read_chunks(
            path, names, layout, has_header=has_header, at_once=ROWS_READ_AT_ONCE, as_text=as_text
        ):

            def where(row: int, before: int = before) -> str:
                return f"{path}:{line_of(path, before + row, layout.separator, has_header)}"

            yield columns, frame, where
            before += len(frame)
        if not before:
            raise UserError(f"{path}: has a header and no rows")

    def _names(self, path: Path, header: list[str], targets: Sequence[str]) -> tuple[bool, list[Any], Columns]:
        """Whether the first line of a file is a header, what to call its cells, and the columns in these terms.

        What the model has no use for, and what has no name, is called by its place, from 1.
        """
        wanted = [*self.columns.names, *targets]
        has_header = any(to_number(cell) is None for cell in header) or {*header} >= {*wanted}
        by_name = has_header and (self.is_table or bool(self.feature_names))
        needed = wanted if by_name else targets
        missing = [name for name in needed if name not in header]
        if missing:
            hint = (
                ""
                if targets or any(one.kind != "number" for one in self.columns.columns)
                else (f", or give {len(self.columns.columns)} columns without a header")
            )
            raise UserError(f"{path}:1: has no column {missing[0]!r}; name the columns as in training{hint}")
        if twice := [name for name in needed if header.count(name) > 1]:
            raise UserError(f"{path}:1: has two columns named {twice[0]!r}; rename one")
        names = [cell if has_header and cell in needed else place for place, cell in enumerate(header, 1)]
        if by_name:
            return has_header, names, self.columns
        places = [name for name in names if isinstance(name, int)]
        if len(places) != len(self.columns.columns) or any(one.kind == "category" for one in self.columns.columns):
            raise UserError(f"{path}:1: has {len(places)} columns; the model takes {len(self.columns.columns)}")
        columns = [replace(one, name=place) for one, place in zip(self.columns.columns, places, strict=True)]
        return has_header, names, Columns(columns, self.columns.missing)

    def _array(self, path: Path) -> NDArray[np.float32]:
        if not path.is_file():
            raise UserError(f"{path}: no such file; give a .csv or .npy file with {self._width()} columns")
        try:
            loaded: NDArray[np.float32] = np.load(path, allow_pickle=False).astype(np.float32)
        except (ValueError, EOFError) as error:
            raise UserError(f"{path}: is not an array of numbers: {error}") from None
        if loaded.ndim == 0 or loaded[0:1].size != self._width():
            raise UserError(f"{path}: has shape {list(loaded.shape)}; give rows of {self._width()} numbers")
        return loaded.reshape(len(loaded), *self.feature_shape)

    def _width(self) -> int:
        return math.prod(self.feature_shape)


def to_number(cell: str) -> float | None:
    """The finite number that a cell of a table holds, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
