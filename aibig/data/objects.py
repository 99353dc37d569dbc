"""Python objects as datasets: what stands in a config in place of a name. Knows no model and no loss."""

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
from aibig.data.tables.columns import frame_locator
from aibig.data.tables.table import encode_targets, from_frame
from aibig.errors import UserError

ARRAYS = "aibig.data.arrays:ArrayData"
TEXT = "aibig.data.text.text_data:TextData"


def entry_of(value: Any, description: str) -> Entry:
    """The registry's row for an object in place of a name.

    Args:
        value: the object.
        description: names it in errors and listings.

    Raises:
        UserError: the object is no data.
    """
    bases = {(base.__module__.partition(".")[0], base.__name__) for base in type(value).__mro__}
    if ("pandas", "DataFrame") in bases:
        return Entry(description, partial(from_frame, value), wrapper=ARRAYS)
    if isinstance(value, Arrays):
        return Entry(description, partial(_itself, value), wrapper=ARRAYS)
    if any(package == "aibig" for package, _ in bases):  # a LabelledData or TextData, with batches and splits
        return Entry(description, partial(_itself, value))
    if ("torch", "Dataset") in bases:
        from aibig.data.torch_dataset import dataset_samples

        return Entry(description, partial(dataset_samples, value), wrapper="aibig.data.samples:SampleData")
    if isinstance(value, list | tuple) and len(value) == 2 and not isinstance(value[0], str):
        return Entry(description, partial(from_pair, *value), wrapper=ARRAYS)
    if isinstance(value, Iterable) and not hasattr(value, "shape"):
        return Entry(description, partial(_itself, value), wrapper=TEXT)
    raise UserError(
        f"{description} is no data; give a name, a DataFrame, a torch Dataset, a pair (features, targets), "
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
    """Features and targets as scikit-learn takes them: lists, or arrays of NumPy, torch or pandas.

    Args:
        features: (rows, ...) numbers, or a DataFrame.
        targets: (rows,) or (rows, outputs).
        target_type: whether targets are "classes" or "values"; "auto" is what the task needs, or without a task
            classes for text and values for numbers.
        class_names: names by class number, where the targets are class numbers from 0.
        feature_names: names of the columns, where the features are numbers.
        missing: "refuse" missing cells of a DataFrame, or "impute" them.
        max_categories: limit of distinct values in a DataFrame's column of text.

    Raises:
        UserError: features and targets don't match; it names the row.
    """
    target_array = _array(targets)
    if len(features) != len(target_array):
        raise UserError(f"{len(features)} rows of features do not match {len(target_array)} targets")
    columns = target_array.reshape(len(target_array), -1)
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
        return Arrays(_array(features), target_array, class_names, feature_names or [])
    values, inferred_names = encode_targets(frame, names, target_type, len(frame), frame_locator(frame))
    return Arrays(_array(features), values, inferred_names, feature_names or [])


def _array(values: Any) -> NDArray[Any]:
    try:
        return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
    except ValueError as error:  # rows of different length
        raise UserError(f"features and targets must be arrays: {error}") from None


def _itself(value: Any, *_: Any) -> Any:
    return value
