"""Tables: CSV files and DataFrames as features and targets, column by column. Knows no model and no split."""

from __future__ import annotations

import csv
import itertools
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aibig.config.settings import ExistingPath, PositiveInt
from aibig.data.arrays import Arrays
from aibig.data.tables.columns import (
    DECIMAL_COMMA,
    Kind,
    Table,
    Where,
    find_kind,
    frame_place,
    labels_of,
    numbers_of,
    shown,
)
from aibig.errors import UserError, nearest

SEPARATORS = ",\t;|"
LINES_SEEN = 50  # to tell how a file is written
MOST_NUMERIC_CLASSES = 20  # more different numbers with a point than this are values


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
    """A CSV file (UTF-8, a header, a comma, tab, semicolon or | between cells); its settings are `from_frame`'s, and:

    validation_path, test_path: files with the same columns, which are those parts whole; what is not given is split
    off `path`. separator: "auto" takes what divides the header most often. Where that is a semicolon, numbers may have
    a decimal comma.

    Raises UserError naming file, line and column.
    """
    files = {"train": path, "validation": validation_path, "test": test_path}
    frames = {part: read_frame(file, separator, categories) for part, file in files.items() if file}
    ends = np.cumsum([len(one) for one in frames.values()])
    wanted = [*([target] if isinstance(target, str) else target), *(features or []), *filter(None, [group, time])]
    for part, frame in frames.items():
        needed = wanted if part == "train" or features is not None else [*wanted, *frames["train"].columns]
        _refuse_absent([one for one in needed if one not in ignore or one in wanted], frame, f"{files[part]}:1")

    def where(row: int) -> str:
        number = bisect_right(ends, row)
        file = files[list(frames)[number]]
        before = int(ends[number - 1]) if number else 0
        return f"{file}:{line_of(str(file), row - before, read_layout(str(file), separator).separator)}"

    whole = pd.concat(
        [one[[name for name in frames["train"] if name in one]] for one in frames.values()], ignore_index=True
    )
    arrays = from_frame(
        whole,
        where,
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
    rows = np.split(np.arange(len(whole)), ends[:-1])
    arrays.given = {part: some for part, some in zip(frames, rows, strict=True) if part != "train"}
    return arrays


def from_frame(
    frame: pd.DataFrame,
    where: Where | None = None,
    first: int | None = None,
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

    where: the place of a row, for errors, by default its label. first: how many rows, the first ones, say what the
    columns hold and which classes there are, by default all.

    target: the column to predict, or several columns of values. target_type: "classes" or "values"; "auto" is what
    the task wants, without a task classes for text and values for numbers. features: the columns to learn from,
    by default all others but those of `ignore`. categories: columns of numbers that are categories all the same.
    group: rows with the same value of this column are never divided between parts. time: the latest rows test; it
    is not learned from unless `features` has it. missing: "refuse" missing cells, or "impute" them (see
    `aibig.data.tables.columns.Columns`). max_categories: a text column with more different values is refused.

    Numbers stay, text becomes categories, dates of ISO 8601 days since 1970. A column that counts the rows from 0 or
    1, as a saved index does, is left out unless `features` has it. Raises UserError naming row and column.
    """
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    where = where or frame_place(frame)
    if not len(frame):
        raise UserError(f"{where(-1)}: has no rows")
    _refuse_twice([*frame.columns], where(-1))
    targets = [target] if isinstance(target, str) else list(target)
    if not targets:
        raise UserError("target names no column; name the one to predict")
    if features is not None and (twice := [one for one in features if features.count(one) > 1]):
        raise UserError(f"column {twice[0]!r} is among the features twice; name it once")
    _refuse_absent([*targets, *(features or []), *ignore, *categories, *filter(None, [group, time])], frame, where(-1))
    left_out: dict[str, str] = {}
    if features is None:
        others = [one for one in frame if one not in {*targets, *ignore, group, time}]
        left_out = {one: why for one in others if (why := _is_of_no_use(frame[one].iloc[:first]))}
        features = [one for one in others if one not in left_out]
    if both := [one for one in features if one in targets]:
        raise UserError(f"column {both[0]!r} is the target; it can't be among the features too")
    values, class_names = find_targets(frame, targets, target_type, first or len(frame), where)
    kinds: dict[str, Kind] = {
        one: "category" if one in categories else find_kind(frame[one].iloc[:first]) for one in features
    }
    return Arrays(
        Table(frame[features], kinds, where, missing, max_categories, left_out),
        values,
        class_names,
        features,
        target_names=targets,
        groups=None if group is None else _codes(frame[group], where),
        times=None if time is None else _moments(frame[time], where),
    )


def find_targets(
    frame: pd.DataFrame, names: Sequence[str], target_type: str, first: int, where: Where
) -> tuple[NDArray[Any], list[str]]:
    """Class numbers (rows,) and names, or values (rows, outputs) and no names."""
    kinds = [find_kind(frame[name].iloc[:first]) for name in names]
    if target_type == "auto":
        target_type = "classes" if kinds == ["category"] else "values"
    if target_type == "values":
        return np.stack([target_values(frame[name], name, where) for name in names], 1), []
    if len(names) > 1:
        raise UserError(f"{len(names)} targets can't be classes; name one column, or use the task 'regression'")
    cells = frame[names[0]]
    _refuse_missing_targets(cells, names[0], where)
    if kinds == ["number"]:
        _refuse_values(names[0], numbers_of(cells.iloc[:first], "number"))
    class_names = sorted(labels_of(cells.iloc[:first]).unique(), key=_in_number_order)
    if len(class_names) < 2:
        raise UserError(f"the target {names[0]!r} has one class only, {class_names[0]!r}; give rows of other classes")
    return class_numbers(cells, class_names, names[0], where), class_names


def _refuse_missing_targets(cells: pd.Series, name: str, where: Where) -> None:
    if (empty := cells.isna().to_numpy()).any():
        rows = f" (so are {empty.sum() - 1:,} more)" if empty.sum() > 1 else ""
        raise UserError(
            f"{where(int(empty.argmax()))}: the target {name!r} is missing{rows}; fill it in or take the row out"
        )


def class_numbers(cells: pd.Series, class_names: Sequence[str], name: str, where: Where) -> NDArray[np.int64]:
    """(rows,) the numbers of classes by name. Raises UserError for one that is not among them."""
    _refuse_missing_targets(cells, name, where)
    labels = labels_of(cells)
    numbers = pd.Index(class_names).get_indexer(labels).astype(np.int64)
    if (strange := numbers < 0).any():
        row = int(strange.argmax())
        raise UserError(
            f"{where(row)}: the target {name!r} is {labels.iloc[row]!r}, which is none of the classes of training "
            f"({', '.join(class_names[:10])}{', ...' if len(class_names) > 10 else ''})"
        )
    return numbers


def target_values(cells: pd.Series, name: str, where: Where) -> NDArray[np.float64]:
    """(rows,) numbers. Raises UserError for a cell that is none."""
    _refuse_missing_targets(cells, name, where)
    if pd.api.types.is_datetime64_any_dtype(cells):
        raise UserError(f"the target {name!r} is a date; make it a number, of days say")
    values = numbers_of(cells, "number")
    if (bad := ~np.isfinite(values)).any():
        row = int(bad.argmax())
        raise UserError(
            f"{where(row)}: the target {name!r} is {shown(cells, row)}, which is not a finite number; mend it, or for "
            "classes use the task 'classification'"
        )
    return values


def _refuse_values(name: str, values: NDArray[np.float64]) -> None:
    """Raise UserError for numbers that can't be meant as classes."""
    distinct = np.unique(values)
    fractions = len(distinct) > MOST_NUMERIC_CLASSES and (distinct != np.round(distinct)).any()
    if fractions or len(distinct) > max(MOST_NUMERIC_CLASSES, len(values) / 2):
        raise UserError(
            f"the target {name!r} has {len(distinct):,} different numbers in {len(values):,} rows, such as "
            f"{distinct[0]:g}, too many for classes; use the task 'regression'"
        )


def _in_number_order(label: str) -> tuple[bool, float, str]:
    try:
        return False, float(label), label
    except ValueError:
        return True, 0.0, label


def _codes(cells: pd.Series, where: Where) -> NDArray[np.int64]:
    """(rows,) a number for each different cell."""
    _refuse_missing(cells, where)
    return cells.factorize()[0].astype(np.int64)


def _moments(cells: pd.Series, where: Where) -> NDArray[np.float64]:
    """(rows,) numbers in the order of time."""
    _refuse_missing(cells, where)
    times = numbers_of(cells, find_kind(cells))
    if (bad := ~np.isfinite(times)).any():
        row = int(bad.argmax())
        raise UserError(
            f"{where(row)}: column {cells.name!r} is {shown(cells, row)}, which is neither a number nor a date such as "
            "2024-12-31"
        )
    return times


def _refuse_missing(cells: pd.Series, where: Where) -> None:
    if (empty := cells.isna().to_numpy()).any():
        raise UserError(
            f"{where(int(empty.argmax()))}: column {cells.name!r} is missing; groups and times can't be imputed"
        )


def _refuse_twice(names: Sequence[str], place: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            which = f"two columns named {name!r}" if name else "two columns without a name"
            raise UserError(f"{place}: has {which}; rename one")
        seen.add(name)


def _refuse_absent(names: Sequence[str], frame: pd.DataFrame, place: str) -> None:
    absent = [one for one in names if one not in frame]
    if absent:
        hint = nearest(absent[0], frame.columns) or f"; it has: {', '.join(frame.columns[:20])}"
        raise UserError(f"{place}: has no column {absent[0]!r}{hint}")


def _is_of_no_use(cells: pd.Series) -> str:
    """Why nothing can be learned from a column: it is empty, or is 0, 1, 2, ... or 1, 2, 3, ...; else ""."""
    from pandas.api import types

    if cells.isna().all():
        return "is empty"
    if not types.is_integer_dtype(cells) or len(cells) < 3 or cells.isna().any():
        return ""
    values = cells.to_numpy(np.int64)
    return "counts the rows; data.features keeps it" if values[0] in (0, 1) and (np.diff(values) == 1).all() else ""


class Layout(NamedTuple):
    """How a file is written: the cells of its first line, what separates them, and the decimal mark."""

    header: list[str]
    separator: str
    decimal: str


def read_frame(path: str | Path, separator: str = "auto", as_text: Sequence[str] = ()) -> pd.DataFrame:
    """A CSV file with a header; the columns of `as_text` stay text. Raises UserError naming file, line and cure."""
    layout = read_layout(path, separator)
    _refuse_twice(layout.header, f"{path}:1")
    present = [name for name in as_text if name in layout.header]
    (frame,) = read_chunks(path, layout.header, layout, at_once=None, as_text=present)
    if not len(frame):
        raise UserError(f"{path}: has a header and no rows")
    return frame


def read_layout(path: str | Path, separator: str = "auto") -> Layout:
    """How a file is written, from its first lines. Raises UserError if there are none."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; give a .csv file")
    if len(separator) != 1 and separator != "auto":
        raise UserError(f"the separator {separator!r} is not one character; leave it out, or give one such as ';'")
    with naming_mistakes(path), Path(path).open(encoding="utf-8-sig", newline="") as file:
        lines = list(itertools.islice((line for line in file if line.strip()), LINES_SEEN))
        if not lines:
            raise UserError(f"{path}: is empty; it needs a line for each row")
        if separator == "auto":
            separator = max(SEPARATORS, key=lambda one: len(next(csv.reader(lines[:1], delimiter=one))))
        header, *rows = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    if rows and len(rows[0]) > len(header):
        line = line_of(path, 0, separator)
        raise UserError(f"{path}:{line}: has {len(rows[0])} columns, the line before {len(header)}; name every column")
    cells = [cell.strip() for row in rows for cell in row]
    decimal = "," if separator == ";" and any(map(DECIMAL_COMMA.match, cells)) else "."
    return Layout([cell.strip() for cell in header], separator, decimal)


def read_chunks(
    path: str | Path,
    names: Sequence[str | int],
    layout: Layout,
    *,
    has_header: bool = True,
    at_once: int | None,
    as_text: Sequence[str | int] = (),
) -> Iterator[pd.DataFrame]:
    """The rows of a file, `at_once` at a time, None for all; the columns of `as_text` are not read as numbers."""
    with naming_mistakes(path):
        read = pd.read_csv(
            path,
            sep=layout.separator,
            decimal=layout.decimal,
            header=0 if has_header else None,
            names=list(names),
            index_col=False,
            dtype=dict.fromkeys(as_text, "str"),
            skipinitialspace=True,
            encoding="utf-8-sig",
            low_memory=False,
            chunksize=at_once,
        )
        yield from [read] if at_once is None else read


def line_of(path: str | Path, row: int, separator: str = ",", has_header: bool = True) -> int:
    """The line that row number `row` of a file begins on; -1 is the header. Only errors ask, so the file is reread."""
    wanted = row + has_header
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=separator)
        begins = 1
        for cells in reader:
            if len(cells) > 1 or "".join(cells).strip():  # blank lines are no rows
                if wanted <= 0:
                    return begins
                wanted -= 1
            begins = reader.line_num + 1
    return begins


@contextmanager
def naming_mistakes(path: str | Path) -> Iterator[None]:
    """What can't be read becomes a UserError with file, line and cure."""
    try:
        yield
    except UnicodeDecodeError:
        try:
            Path(path).read_bytes().decode("utf-8-sig")
            place = ""
        except UnicodeDecodeError as error:
            place = f" (byte {error.start})"
        raise UserError(f"{path}: is not UTF-8 text{place}; convert it to UTF-8") from None
    except (pd.errors.ParserError, csv.Error) as error:
        found = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        if found:
            raise UserError(
                f"{path}:{found[2]}: has {found[3]} columns, the lines before {found[1]}; quote cells that hold the "
                "separator"
            ) from None
        raise UserError(f"{path}: is not a table: {str(error).strip()}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
