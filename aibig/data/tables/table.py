"""Tables as features and targets: from CSV files and DataFrames, column by column. Knows no model and no split."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aibig.config.settings import ExistingPath, PositiveInt
from aibig.data.arrays import Arrays
from aibig.data.labelled import class_numbers, sorted_labels
from aibig.data.splits import predefined_rows
from aibig.data.tables.columns import (
    ColumnKind,
    RowLocator,
    Table,
    format_cell,
    frame_locator,
    infer_kind,
    labels_of,
    numbers_of,
)
from aibig.data.tables.csv_file import check_columns, check_unique, line_of, read_frame, sniff_dialect
from aibig.errors import UserError

MAX_NUMERIC_CLASSES = 20  # more distinct numbers with a point than this are values


def read_csv(
    *,
    path: ExistingPath,
    target: str | list[str],
    target_type: Literal["auto", "classes", "values"] = "auto",
    features: list[str] | None = None,
    ignore: list[str] = [],  # noqa: B006
    categories: list[str] = [],  # noqa: B006
    group: str | None = None,
    time: str | None = None,
    validation_path: ExistingPath | None = None,
    test_path: ExistingPath | None = None,
    missing: Literal["refuse", "impute"] = "refuse",
    max_categories: PositiveInt = 50,
    separator: str = "auto",
) -> Arrays:
    """The rows of a CSV file: UTF-8, a header, a comma, tab, semicolon or | between cells.

    Numbers stay numbers, text becomes categories, dates of ISO 8601 become days since 1970. A column that counts the
    rows from 0 or 1, as a saved index does, is left out unless `features` names it. Where a semicolon separates cells,
    numbers may have a decimal comma.

    Args:
        path: the file; splits that have no file of their own are split off it.
        target: name of the column to predict, or a list of several columns of values.
        target_type: whether the target is "classes" or "values"; "auto" is what the task needs, or without a task
            classes for text and values for numbers.
        features: names of the columns to learn from; by default all but the target, `ignore`, `group` and `time`.
        ignore: names of columns to leave out.
        categories: names of columns of numbers that are categories nevertheless.
        group: name of a column; rows with the same value of it stay in one split.
        time: name of a column of numbers or dates; the latest rows test. `features` must name it to learn from it.
        validation_path: CSV file of the validation split, with the same columns.
        test_path: CSV file of the test split, with the same columns.
        missing: "refuse" missing cells, or "impute" them: the training split's median, or a category of its own.
        max_categories: limit of distinct values in a column of text.
        separator: character between cells; "auto" takes the one that divides the header most often.

    Raises:
        UserError: names file, line and column.
    """
    files = {"train": path, "validation": validation_path, "test": test_path}
    frames = {split: read_frame(file, separator, categories) for split, file in files.items() if file}
    ends = np.cumsum([len(frame) for frame in frames.values()])
    used = [*([target] if isinstance(target, str) else target), *(features or []), *filter(None, [group, time])]
    for split, frame in frames.items():
        needed = used if split == "train" or features is not None else [*used, *frames["train"].columns]
        check_columns([name for name in needed if name not in ignore or name in used], frame, f"{files[split]}:1")

    def locate(row: int) -> str:
        number = bisect_right(ends, row)
        file = str(files[list(frames)[number]])
        start = int(ends[number - 1]) if number else 0
        return f"{file}:{line_of(file, row - start, sniff_dialect(file, separator).separator)}"

    all_rows = pd.concat(
        [frame[[name for name in frames["train"] if name in frame]] for frame in frames.values()], ignore_index=True
    )
    arrays = from_frame(
        all_rows,
        locate,
        len(frames["train"]),
        target=target,
        target_type=target_type,
        features=features,
        ignore=ignore,
        categories=categories,
        group=group,
        time=time,
        missing=missing,
        max_categories=max_categories,
    )
    arrays.predefined_splits = predefined_rows({split: len(frame) for split, frame in frames.items()})
    return arrays


def from_frame(
    frame: pd.DataFrame,
    locate: RowLocator | None = None,
    inferred_rows: int | None = None,
    *,
    target: str | list[str],
    target_type: Literal["auto", "classes", "values"] = "auto",
    features: list[str] | None = None,
    ignore: list[str] = [],  # noqa: B006
    categories: list[str] = [],  # noqa: B006
    group: str | None = None,
    time: str | None = None,
    missing: Literal["refuse", "impute"] = "refuse",
    max_categories: PositiveInt = 50,
) -> Arrays:
    """The rows of a pandas DataFrame.

    Numbers stay numbers, text becomes categories, dates of ISO 8601 become days since 1970. A column that counts the
    rows from 0 or 1, as a saved index does, is left out unless `features` names it.

    Args:
        frame: the DataFrame.
        locate: row number -> its place, for errors; by default the row's label.
        inferred_rows: how many of the first rows tell the kinds of columns and the classes; by default all.
        target: name of the column to predict, or a list of several columns of values.
        target_type: whether the target is "classes" or "values"; "auto" is what the task needs, or without a task
            classes for text and values for numbers.
        features: names of the columns to learn from; by default all but the target, `ignore`, `group` and `time`.
        ignore: names of columns to leave out.
        categories: names of columns of numbers that are categories nevertheless.
        group: name of a column; rows with the same value of it stay in one split.
        time: name of a column of numbers or dates; the latest rows test. `features` must name it to learn from it.
        missing: "refuse" missing cells, or "impute" them: the training split's median, or a category of its own.
        max_categories: limit of distinct values in a column of text.

    Raises:
        UserError: names row and column.
    """
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    locate = locate or frame_locator(frame)
    if not len(frame):
        raise UserError(f"{locate(-1)}: has no rows")
    check_unique(frame.columns, locate(-1))
    targets = [target] if isinstance(target, str) else list(target)
    if not targets:
        raise UserError("target names no column; name the one to predict")
    if features is not None and (repeated := [name for name in features if features.count(name) > 1]):
        raise UserError(f"column {repeated[0]!r} is among the features twice; name it once")
    named = [*targets, *(features or []), *ignore, *categories, *filter(None, [group, time])]
    check_columns(named, frame, locate(-1))
    left_out: dict[str, str] = {}
    if features is None:
        others = [name for name in frame if name not in {*targets, *ignore, group, time}]
        left_out = {name: reason for name in others if (reason := _uselessness(frame[name].iloc[:inferred_rows]))}
        features = [name for name in others if name not in left_out]
    if both := [name for name in features if name in targets]:
        raise UserError(f"column {both[0]!r} is the target; it can't be among the features too")
    values, class_names = encode_targets(frame, targets, target_type, inferred_rows or len(frame), locate)
    kinds: dict[str, ColumnKind] = {
        name: "category" if name in categories else infer_kind(frame[name].iloc[:inferred_rows]) for name in features
    }
    return Arrays(
        Table(frame[features], kinds, locate, missing, max_categories, left_out),
        values,
        class_names,
        features,
        target_names=targets,
        groups=None if group is None else _group_numbers(frame[group], locate),
        times=None if time is None else _times(frame[time], locate),
    )


def encode_targets(
    frame: pd.DataFrame, names: Sequence[str], target_type: str, inferred_rows: int, locate: RowLocator
) -> tuple[NDArray[Any], list[str]]:
    """The targets of a table as numbers.

    Args:
        frame: the table.
        names: the target's columns.
        target_type: "classes", "values", or "auto": classes for a column of categories, else values.
        inferred_rows: how many of the first rows tell the kinds of columns and the classes.
        locate: row number -> its place, for errors.

    Returns:
        (rows,) class numbers and the names of the classes; or (rows, outputs) values and no names.

    Raises:
        UserError: the columns hold no targets of that type.
    """
    kinds = [infer_kind(frame[name].iloc[:inferred_rows]) for name in names]
    if target_type == "auto":
        target_type = "classes" if kinds == ["category"] else "values"
    if target_type == "values":
        return np.stack([target_values(frame[name], name, locate) for name in names], 1), []
    if len(names) > 1:
        raise UserError(f"{len(names)} targets can't be classes; name one column, or use the task 'regression'")
    cells = frame[names[0]]
    _check_targets_present(cells, names[0], locate)
    if kinds == ["number"]:
        _check_class_count(names[0], numbers_of(cells.iloc[:inferred_rows], "number"))
    class_names = sorted_labels(labels_of(cells.iloc[:inferred_rows]))
    if len(class_names) < 2:
        raise UserError(f"the target {names[0]!r} has one class only, {class_names[0]!r}; give rows of other classes")
    return target_classes(cells, class_names, names[0], locate), class_names


def target_classes(cells: pd.Series, class_names: Sequence[str], name: str, locate: RowLocator) -> NDArray[np.int64]:
    """(rows,) class numbers of a target's cells.

    Args:
        cells: the target's column.
        class_names: by class number.
        name: of the target.
        locate: row number -> its place, for errors.

    Raises:
        UserError: a cell is missing, or none of the classes.
    """
    _check_targets_present(cells, name, locate)
    return class_numbers(labels_of(cells).tolist(), class_names, locate, f"the target {name!r}")


def target_values(cells: pd.Series, name: str, locate: RowLocator) -> NDArray[np.float64]:
    """(rows,) values of a target's cells.

    Args:
        cells: the target's column.
        name: of the target.
        locate: row number -> its place, for errors.

    Raises:
        UserError: a cell is missing, or not a finite number.
    """
    _check_targets_present(cells, name, locate)
    if pd.api.types.is_datetime64_any_dtype(cells):
        raise UserError(f"the target {name!r} is a date; make it a number, of days say")
    values = numbers_of(cells, "number")
    if (invalid := ~np.isfinite(values)).any():
        row = int(invalid.argmax())
        raise UserError(
            f"{locate(row)}: the target {name!r} is {format_cell(cells, row)}, which is not a finite number; correct "
            "it, or for classes use the task 'classification'"
        )
    return values


def _check_targets_present(cells: pd.Series, name: str, locate: RowLocator) -> None:
    if (empty := cells.isna().to_numpy()).any():
        others = f" (so are {empty.sum() - 1:,} more)" if empty.sum() > 1 else ""
        raise UserError(
            f"{locate(int(empty.argmax()))}: the target {name!r} is missing{others}; fill it in or take the row out"
        )


def _check_class_count(name: str, values: NDArray[np.float64]) -> None:
    """Raise UserError for numbers that can't be meant as classes."""
    distinct = np.unique(values)
    are_fractions = len(distinct) > MAX_NUMERIC_CLASSES and (distinct != np.round(distinct)).any()
    if are_fractions or len(distinct) > max(MAX_NUMERIC_CLASSES, len(values) / 2):
        raise UserError(
            f"the target {name!r} has {len(distinct):,} different numbers in {len(values):,} rows, such as "
            f"{distinct[0]:g}, too many for classes; use the task 'regression'"
        )


def _group_numbers(cells: pd.Series, locate: RowLocator) -> NDArray[np.int64]:
    """(rows,) a number for each distinct cell."""
    _check_present(cells, locate)
    return cells.factorize()[0].astype(np.int64)


def _times(cells: pd.Series, locate: RowLocator) -> NDArray[np.float64]:
    """(rows,) numbers in the order of time."""
    _check_present(cells, locate)
    times = numbers_of(cells, infer_kind(cells))
    if (invalid := ~np.isfinite(times)).any():
        row = int(invalid.argmax())
        raise UserError(
            f"{locate(row)}: column {cells.name!r} is {format_cell(cells, row)}, which is neither a number nor a date "
            "such as 2024-12-31"
        )
    return times


def _check_present(cells: pd.Series, locate: RowLocator) -> None:
    if (empty := cells.isna().to_numpy()).any():
        raise UserError(
            f"{locate(int(empty.argmax()))}: column {cells.name!r} is missing; groups and times can't be imputed"
        )


def _uselessness(cells: pd.Series) -> str:
    """Why nothing can be learned from a column: it is empty, or is 0, 1, 2, ... or 1, 2, 3, ...; else ""."""
    if cells.isna().all():
        return "is empty"
    if not pd.api.types.is_integer_dtype(cells) or len(cells) < 3 or cells.isna().any():
        return ""
    values = cells.to_numpy(np.int64)
    return "counts the rows; data.features keeps it" if values[0] in (0, 1) and (np.diff(values) == 1).all() else ""
