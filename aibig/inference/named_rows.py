"""Predictions as dicts, for display and files. Knows no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def named_rows(predictions: NDArray[np.float32], class_names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A dict for each row: the label and the probability of each class; without classes, the values.

    Args:
        predictions: probabilities (rows, classes), or values (rows, outputs).
        class_names: names by class number; empty for values.
    """
    if class_names:
        labels = [class_names[number] for number in predictions.argmax(1).tolist()]
        for label, row in zip(labels, predictions.tolist(), strict=True):
            yield {"label": label, **dict(zip(class_names, row, strict=True))}
        return
    width = predictions.shape[1]
    names = ["value"] if width == 1 else [f"value_{number}" for number in range(width)]
    for row in predictions.tolist():
        yield dict(zip(names, row, strict=True))
