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

from aibig.data.tables.columns import Column, Columns, RowLocator, frame_locator
from aibig.errors import UserError
from aibig.inference.named_rows import named_rows
from aibig.layers.utils.modes import eval_mode
from aibig.metrics.outcomes import ClassificationOutcome, Outcome, RegressionOutcome
from aibig.pretrained.model_folder import inference_device

if TYPE_CHECKING:
    import pandas as pd

BATCH_ROWS = 4096  # through the model
CHUNK_ROWS = 65_536  # of a file


class RowsPredictor:
    """A model of rows, with the preparation of features and the class names.

    Args:
        model: module that returns logits or values (B, C), or (M, B, C) for M members of an ensemble.
        inference_config: contents of model.json.
    """

    def __init__(self, model: nn.Module, inference_config: dict[str, Any]) -> None:
        self.device = inference_device()
        self.model = model.to(self.device)
        self.feature_names: list[str] = inference_config["feature_names"]
        self.feature_shape: list[int] = inference_config["feature_shape"]
        self.target_names: list[str] = inference_config.get("target_names", [])
        self.class_names: list[str] = inference_config.get("class_names", [])
        self.is_table = "columns" in inference_config
        names: list[Any] = self.feature_names or list(range(1, self._width() + 1))
        unscaled = Columns([Column(name) for name in names])  # scaled by shift and scale below
        self.columns = Columns.from_dict(inference_config["columns"]) if self.is_table else unscaled
        self._shift, self._scale = (torch.tensor(inference_config[f"feature_{key}"]) for key in ("shift", "scale"))
        self._target_shift = torch.tensor(inference_config.get("target_shift", 0.0))
        self._target_scale = torch.tensor(inference_config.get("target_scale", 1.0))

    def predict(self, features: ArrayLike | pd.DataFrame) -> NDArray[np.float32]:
        """Probabilities (rows, classes), or values (rows, outputs).

        Args:
            features: numbers (rows, ...), or a DataFrame with the columns of training; a model of a table needs a
                DataFrame.

        Raises:
            UserError: the rows have another shape, or the outputs are not finite.
        """
        if hasattr(features, "columns") and (self.is_table or self.feature_names):
            table: Any = features
            frame = table.set_axis([str(name) for name in table.columns], axis=1)
            return self._predict_encoded(self._encode(self.columns, frame, frame_locator(frame)))
        if self.is_table:
            raise UserError(f"the model needs a DataFrame with the columns {', '.join(self.columns.names)}")
        inputs = torch.from_numpy(np.asarray(features, dtype=np.float32))
        if list(inputs.shape[1:]) != self.feature_shape:
            raise UserError(f"rows of shape {list(inputs.shape[1:])}; the model needs {self.feature_shape}")
        return self._predict_encoded(inputs)

    def _predict_encoded(self, inputs: Tensor) -> NDArray[np.float32]:
        with eval_mode(self.model):
            batches = [self._predict_batch(batch) for batch in inputs.split(BATCH_ROWS)]
        predictions: NDArray[np.float32] = torch.cat(batches).numpy()
        if not np.isfinite(predictions).all():
            raise UserError("the model's outputs are not finite: it diverged in training, or the input is enormous")
        return predictions

    def _predict_batch(self, features: Tensor) -> Tensor:
        outputs = self.model(((features - self._shift) / self._scale).to(self.device)).float().cpu()
        if self.class_names:
            outputs = outputs.softmax(-1)
        mean = outputs.mean(0) if outputs.ndim == 3 else outputs
        return mean if self.class_names else mean * self._target_scale + self._target_shift

    def predict_file(self, path: str | Path) -> Iterator[dict[str, Any]]:
        """A dict for each row of a file: label and probabilities, or values.

        Args:
            path: a .csv or .npy file. A CSV file is read and predicted in chunks. Its columns are found by name, other
                columns are ignored; a file of numbers needs no header.

        Raises:
            UserError: the file can't be read; the error names file, row and column.
        """
        path = Path(path)
        chunks = [self.predict(self._array(path))] if path.suffix == ".npy" else self._predicted_chunks(path)
        for predictions in chunks:
            yield from named_rows(predictions, self.class_names)

    @property
    def note(self) -> str:
        """A remark about the rows so far: categories that training did not have; "" for none."""
        return self.columns.unseen_note()

    def outcome(self, path: str | Path) -> Outcome:
        """Predictions and targets of labelled data.

        Args:
            path: as for `predictions_and_targets`.
        """
        predictions, targets = self.predictions_and_targets(path)
        if self.class_names:
            return ClassificationOutcome(predictions, targets, self.class_names)
        return RegressionOutcome(predictions, targets)

    def predictions_and_targets(self, path: str | Path) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Predictions for a table, and the targets in it.

        Args:
            path: a CSV file with the target columns of training ("target" if they had no name).

        Returns:
            Probabilities (rows, classes) and class numbers (rows,); or values and targets, (rows, outputs) each.

        Raises:
            UserError: a target is missing, or its class is unknown.
        """
        from aibig.data.tables.table import target_classes, target_values

        outputs = 1 if self.class_names else self._target_shift.numel()
        names = self.target_names or (["target"] if outputs == 1 else [f"target_{number}" for number in range(outputs)])
        predictions, targets = [], []
        for columns, frame, locate in self._chunks(Path(path), names):
            predictions.append(self._predict_encoded(self._encode(columns, frame, locate)))
            if self.class_names:
                targets.append(target_classes(frame[names[0]], self.class_names, names[0], locate))
            else:
                targets.append(np.stack([target_values(frame[name], name, locate) for name in names], 1))
        return np.concatenate(predictions), np.concatenate(targets)

    def _predicted_chunks(self, path: Path) -> Iterator[NDArray[np.float32]]:
        for columns, frame, locate in self._chunks(path):
            yield self._predict_encoded(self._encode(columns, frame, locate))

    def _encode(self, columns: Columns, frame: Any, locate: RowLocator) -> Tensor:
        return torch.from_numpy(columns.encode(frame, locate)).reshape(len(frame), *self.feature_shape)

    def _chunks(self, path: Path, targets: Sequence[str] = ()) -> Iterator[tuple[Columns, pd.DataFrame, RowLocator]]:
        """Chunks of a CSV file: the columns as the file names them, the rows, and a function to locate a row."""
        from aibig.data.tables.csv_file import line_of, read_chunks, sniff_dialect

        dialect = sniff_dialect(path)
        has_header, names, columns = self._names(path, dialect.header, targets)
        text_columns = [column.name for column in columns.columns if column.kind != "number"]
        start = 0
        for frame in read_chunks(
            path, dialect, names, has_header=has_header, chunk_rows=CHUNK_ROWS, text_columns=text_columns
        ):

            def locate(row: int, start: int = start) -> str:
                return f"{path}:{line_of(path, start + row, dialect.separator, has_header)}"

            yield columns, frame, locate
            start += len(frame)
        if not start:
            raise UserError(f"{path}: has a header and no rows")

    def _names(self, path: Path, header: list[str], targets: Sequence[str]) -> tuple[bool, list[Any], Columns]:
        """Whether the first line of a file is a header, names of its columns, and the model's columns by these names.

        The name of a column that the model does not use, or that has none, is its position from 1.
        """
        wanted = [*self.columns.names, *targets]
        has_header = any(to_number(cell) is None for cell in header) or {*header} >= {*wanted}
        by_name = has_header and (self.is_table or bool(self.feature_names))
        needed = wanted if by_name else targets
        missing = [name for name in needed if name not in header]
        if missing:
            hint = (
                ""
                if targets or any(column.kind != "number" for column in self.columns.columns)
                else (f", or give {len(self.columns.columns)} columns without a header")
            )
            raise UserError(f"{path}:1: has no column {missing[0]!r}; name the columns as in training{hint}")
        if repeated := [name for name in needed if header.count(name) > 1]:
            raise UserError(f"{path}:1: has two columns named {repeated[0]!r}; rename one")
        names = [cell if has_header and cell in needed else position for position, cell in enumerate(header, 1)]
        if by_name:
            return has_header, names, self.columns
        positions = [name for name in names if isinstance(name, int)]
        own = self.columns.columns
        if len(positions) != len(own) or any(column.kind == "category" for column in own):
            raise UserError(f"{path}:1: has {len(positions)} columns; the model needs {len(own)}")
        columns = [replace(column, name=position) for column, position in zip(own, positions, strict=True)]
        return has_header, names, Columns(columns, self.columns.missing)

    def _array(self, path: Path) -> NDArray[np.float32]:
        if not path.is_file():
            raise UserError(f"{path}: no such file; give a .csv or .npy file with {self._width()} columns")
        try:
            array: NDArray[np.float32] = np.load(path, allow_pickle=False).astype(np.float32)
        except (ValueError, EOFError) as error:
            raise UserError(f"{path}: is not an array of numbers: {error}") from None
        if array.ndim == 0 or array[0:1].size != self._width():
            raise UserError(f"{path}: has shape {list(array.shape)}; give rows of {self._width()} numbers")
        return array.reshape(len(array), *self.feature_shape)

    def _width(self) -> int:
        return math.prod(self.feature_shape)


def to_number(cell: str) -> float | None:
    """The finite number in a cell of a table, or None.

    Args:
        cell: text of the cell.
    """
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
