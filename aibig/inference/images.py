"""Predictions for pictures: files, or folders of them. Knows no task and no training data."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aibig.data.images.decoding import SUFFIXES, read_picture
from aibig.data.images.image_folder import image_folder, pictures_in
from aibig.data.samples import default_workers
from aibig.errors import UserError
from aibig.inference.named_rows import named_rows
from aibig.inference.rows import RowsPredictor

PICTURES_AT_ONCE = 64
OF_NUMBERS = {".csv", ".npy"}  # rows of pixels rather than pictures


class ImagesPredictor(RowsPredictor):
    """A model of pictures with their size, channels and scaling: it takes files, and arrays (rows, C, S, S) of bytes.

    Pictures are prepared as for evaluation: the shorter side resized to the model's size, the middle taken.
    """

    def predict_file(self, path: str | Path) -> Iterator[dict[str, Any]]:
        """A dict for each picture of a file or folder: file, label and probabilities, or values; for rows without file.

        Raises UserError naming a file that can't be read, or a folder without pictures.
        """
        path = Path(path)
        if path.suffix in OF_NUMBERS:
            yield from super().predict_file(path)
            return
        paths = pictures_in(path) if path.is_dir() else [path]
        if not paths:
            raise UserError(f"{path}: holds no pictures ({', '.join(sorted(SUFFIXES))})")
        for some, predicted in self._predict_pictures(paths):
            for file, row in zip(some, named_rows(predicted, self.class_names), strict=True):
                yield {"file": str(file), **row}

    def labelled(self, path: str | Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Probabilities (rows, classes) and class numbers (rows,) of a folder with a folder of pictures for each class.

        Raises UserError for a class that the model does not know.
        """
        files = image_folder(path=str(path))
        strange = [name for name in files.class_names if name not in self.class_names]
        if strange:
            raise UserError(f"{path}: the model knows no class {strange[0]!r}; it knows: {', '.join(self.class_names)}")
        numbers = np.array([self.class_names.index(name) for name in files.class_names])
        predicted = [some for _, some in self._predict_pictures(files.paths)]
        return np.concatenate(predicted), numbers[files.targets]

    def _predict_pictures(self, paths: list[Path]) -> Iterator[tuple[list[Path], NDArray[np.float32]]]:
        channels, size, _ = self.feature_shape
        read = partial(read_picture, size=size, channels=channels)
        with ThreadPoolExecutor(default_workers()) as pool:
            for start in range(0, len(paths), PICTURES_AT_ONCE):
                some = paths[start : start + PICTURES_AT_ONCE]
                yield some, self.predict(torch.stack([*pool.map(read, some)]).numpy())
