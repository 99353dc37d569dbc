"""Predictions as rows with names, for people and files. Knows no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def named_rows(predicted: NDArray[np.float32], class_names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Of each row label and probabilities (rows, classes), or values (rows, outputs) where there are no classes."""
    if class_names:
        labels = [class_names[number] for number in predicted.argmax(1).tolist()]
        for label, row in zip(labels, predicted.tolist(), strict=True):
            yield {"label": label, **dict(zip(class_names, row, strict=True))}
        return
    width = predicted.shape[1]
    names = ["value"] if width == 1 else [f"value_{number}" for number in range(width)]
    for row in predicted.tolist():
        yield dict(zip(names, row, strict=True))
