"""Objects from Python as datasets: what stands in a config in place of a name. Knows no model and no loss."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aibig.config.registry import Entry
from aibig.config.settings import PositiveInt
from aibig.data.arrays import Arrays
from aibig.data.tables.columns import frame_place
from aibig.data.tables.table import find_targets, from_frame
from aibig.errors import UserError

ARRAYS = "aibig.data.arrays:ArrayData"
TEXT = "aibig.data.text.text_data:TextData"


def entry_of(value: Any, words: str) -> Entry:
    """The row that `value` has in place of a name; `words` describe it. Raises UserError for what is no data."""
    bases = {(one.__module__.partition(".")[0], one.__name__) for one in type(value).__mro__}
    if ("pandas", "DataFrame") in bases:
        return Entry(words, partial(from_frame, value), wrapper=ARRAYS)
    if isinstance(value, Arrays):
        return Entry(words, partial(_itself, value), wrapper=ARRAYS)
    if any(home == "aibig" for home, _ in bases):  # data that were made by hand: batches and splits are theirs
        return Entry(words, partial(_itself, value))
    if ("torch", "Dataset") in bases:
        from aibig.data.torch_dataset import dataset_samples

        return Entry(words, partial(dataset_samples, value), wrapper="aibig.data.samples:SampleData")
    if isinstance(value, list | tuple) and len(value) == 2 and not isinstance(value[0], str):
        return Entry(words, partial(from_pair, *value), wrapper=ARRAYS)
    if isinstance(value, Iterable) and not hasattr(value, "shape"):
        return Entry(words, partial(_itself, value), wrapper=TEXT)
    raise UserError(
        f"{words} is no data; give a name, a DataFrame, a torch Dataset, a pair (features, targets), "
        "aibig.data.arrays.Arrays, or texts"
    )


def from_pair(
    features: Any,
    targets: Any,
    *,
    target_type: Literal["auto", "classes", "values"] = "auto",
    class_names: list[str] | None = None,
    feature_names: list[str] | None = None,
    missing: Literal["refuse", "impute"] = "refuse",
    max_categories: PositiveInt = 50,
) -> Arrays:
    """(X, y): numbers (rows, ...) or a DataFrame, and (rows,) or (rows, outputs); lists, NumPy's, torch's or pandas'.

    target_type: as for `from_frame`. class_names: of targets that are class numbers from 0, by number.
    feature_names: of columns of numbers. missing, max_categories: of a DataFrame, as for `from_frame`.

    Raises UserError naming the row of what does not fit.
    """
    wanted = _array(targets)
    if len(features) != len(wanted):
        raise UserError(f"{len(features)} rows of features do not match {len(wanted)} targets")
    columns = wanted.reshape(len(wanted), -1)
    names = ["target"] if columns.shape[1] == 1 else [f"target_{number}" for number in range(columns.shape[1])]
    frame = pd.DataFrame(dict(zip(names, columns.T, strict=True)))
    if isinstance(features, pd.DataFrame):
        frame.index = features.index
        while not {*names}.isdisjoint(map(str, features.columns)):
            names = [f"{name}_" for name in names]  # a column has that name already
        frame.columns = names
        both = pd.concat([features, frame], axis=1)
        target = names[0] if len(names) == 1 else names
        return from_frame(both, target=target, target_type=target_type, missing=missing, max_categories=max_categories)
    if class_names is not None:
        return Arrays(_array(features), wanted, class_names, feature_names or [])
    values, found = find_targets(frame, names, target_type, len(frame), frame_place(frame))
    return Arrays(_array(features), values, found, feature_names or [])


def _array(values: Any) -> NDArray[Any]:
    try:
        return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
    except ValueError as error:  # rows of different length
        raise UserError(f"features and targets must be arrays: {error}") from None


def _itself(value: Any, *_: Any) -> Any:
    return value
