"""Predictions for images: files, or folders of them. Knows no task and no training data."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aibig.data.images.decoding import SUFFIXES, read_image
from aibig.data.images.image_folder import image_folder, images_in
from aibig.data.labelled import class_numbers
from aibig.data.samples import default_workers
from aibig.errors import UserError
from aibig.inference.named_rows import named_rows
from aibig.inference.rows import RowsPredictor

BATCH_SIZE = 64
NUMBER_SUFFIXES = {".csv", ".npy"}  # of files that hold rows of pixels


class ImagesPredictor(RowsPredictor):
    """A model of images, for image files and arrays (rows, C, S, S) of bytes.

    Images are prepared as for evaluation: the shorter side is resized to the model's size, and the centre is cropped.
    """

    def predict_file(self, path: str | Path) -> Iterator[dict[str, Any]]:
        """A dict for each image: file, and label and probabilities, or values. Rows of numbers have no file.

        Args:
            path: an image, a folder of images, or a .csv or .npy file with rows of pixels.

        Raises:
            UserError: a file can't be read, or a folder has no images.
        """
        path = Path(path)
        if path.suffix in NUMBER_SUFFIXES:
            yield from super().predict_file(path)
            return
        paths = images_in(path) if path.is_dir() else [path]
        if not paths:
            raise UserError(f"{path}: has no images ({', '.join(sorted(SUFFIXES))})")
        for batch, predictions in self._predict_images(paths):
            for file, row in zip(batch, named_rows(predictions, self.class_names), strict=True):
                yield {"file": str(file), **row}

    def predictions_and_targets(self, path: str | Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Probabilities (rows, classes) and class numbers (rows,) of labelled images.

        Args:
            path: folder with a folder of images for each class.

        Raises:
            UserError: the model does not have a class.
        """
        files = image_folder(path=str(path))
        numbers = class_numbers(files.class_names, self.class_names, lambda _: str(path), "a class")
        predictions = [predictions for _, predictions in self._predict_images(files.paths)]
        return np.concatenate(predictions), numbers[files.targets]

    def _predict_images(self, paths: list[Path]) -> Iterator[tuple[list[Path], NDArray[np.float32]]]:
        channels, size, _ = self.feature_shape
        read = partial(read_image, size=size, channels=channels)
        with ThreadPoolExecutor(default_workers()) as pool:
            for start in range(0, len(paths), BATCH_SIZE):
                batch = paths[start : start + BATCH_SIZE]
                yield batch, self.predict(torch.stack([*pool.map(read, batch)]).numpy())
