"""What a table's columns become before a model sees them: fitted on the training split, kept as plain values.

Used for training and prediction alike. Knows pandas frames, no files, no model and no split.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from aibig.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

ColumnKind = Literal["number", "date", "category"]
RowLocator = Callable[[int], str]  # row number -> its place, for errors: "table.csv:7"; -1 is the header's

MISSING = ""  # the category of a missing cell
MAX_NUMERIC_CATEGORIES = 20  # more distinct cells than these, most of them numbers (or dates), are numbers (or dates)
NAMES_SHOWN = 12  # in a line
ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
OTHER_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}")
DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+$")


@dataclass
class Column:
    """A column as fitted on the training split.

    A number, or a date as days since 1970, becomes (value - shift) / scale. A category becomes a number for each of
    `categories`: 1 for its own and 0 for the others.
    """

    name: str | int  # a number: its position from 1, where the table has no header
    kind: ColumnKind = "number"
    fill: float = 0.0  # value of a missing number: the median
    shift: float = 0.0
    scale: float = 1.0
    categories: list[str] = field(default_factory=list)

    @property
    def width(self) -> int:
        """How many numbers it becomes."""
        return len(self.categories) if self.kind == "category" else 1


@dataclass
class Columns:
    """The columns of a table that a model learns from, in order."""

    columns: list[Column]
    missing: str = "refuse"  # or "impute": numbers by the training split's median, categories as one of their own
    left_out: dict[str, str] = field(default_factory=dict)  # columns that are not learned from -> reason
    unseen: Counter[str] = field(default_factory=Counter)  # cells so far with a category that training lacked; zeros
    imputed: Counter[str] = field(default_factory=Counter)  # missing cells so far

    @classmethod
    def fit(
        cls,
        frame: pd.DataFrame,
        kinds: Mapping[str, ColumnKind],
        scaling: str,
        *,
        missing: str = "refuse",
        max_categories: int = 50,
        left_out: Mapping[str, str] | None = None,
    ) -> Columns:
        """Fit to the rows of the training split; constant columns are left out.

        Args:
            frame: rows of the training split.
            kinds: name -> kind of each column to learn from.
            scaling: "standard" gives each number mean 0 and variance 1; "range" divides by its largest absolute value;
                "none". Categories stay 0 and 1.
            missing: "refuse" or "impute" missing cells.
            max_categories: limit of distinct values in a column of categories.
            left_out: other columns -> reason why they are not learned from.

        Raises:
            UserError: a column has too many categories, or no column is left.
        """
        columns, reasons = [], dict(left_out or {})
        for name, kind in kinds.items():
            column: Column | None
            if kind == "category":
                column = _fit_category(name, labels_of(frame[name]), missing, max_categories)
            else:
                column = _fit_number(name, kind, numbers_of(frame[name], kind), scaling)
            if column is None:
                reasons[name] = "is empty" if frame[name].isna().all() else "is constant"
            else:
                columns.append(column)
        if not columns:
            listed = "; ".join(f"{name!r} {reason}" for name, reason in reasons.items())
            raise UserError(f"no column is left to learn from ({listed or 'the table has none beside the target'})")
        return cls(columns, missing, reasons)

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [str(column.name) for column in self.columns]

    @property
    def width(self) -> int:
        """How many numbers a row becomes."""
        return sum(column.width for column in self.columns)

    def encode(self, frame: pd.DataFrame, locate: RowLocator) -> NDArray[np.float32]:
        """(rows, width) numbers; other columns of the frame are ignored.

        Args:
            frame: the rows, with the columns of training.
            locate: row number -> its place, for errors.

        Raises:
            UserError: a cell is missing or no finite number; it names place and column.
        """
        encoded = np.zeros((len(frame), self.width), np.float32)
        start = 0
        for column in self.columns:
            if column.name not in frame:
                raise UserError(f"{locate(-1)}: has no column {column.name!r}; name the columns as in training")
            encoded[:, start : start + column.width] = self._encode_column(column, frame[column.name], locate)
            start += column.width
        return encoded

    def _encode_column(self, column: Column, cells: pd.Series, locate: RowLocator) -> NDArray[np.float32]:
        empty = cells.isna().to_numpy()
        if self.missing == "refuse" and empty.any():
            row, count = int(empty.argmax()), int(empty.sum())
            others = f"; so are {count - 1:,} more of the column" if count > 1 else ""
            raise UserError(
                f"{locate(row)}: column {column.name!r} is missing{others}; fill it in, train with "
                "data.missing=impute, or leave the column out by data.ignore"
            )
        if empty.any():
            self.imputed[str(column.name)] += int(empty.sum())
        if column.kind == "category":
            return self._one_hot(column, labels_of(cells))
        values = numbers_of(cells, column.kind)
        invalid = ~np.isfinite(values) & ~empty
        if invalid.any():
            row = int(invalid.argmax())
            wanted = "a finite number" if column.kind == "number" else "a date such as 2024-12-31"
            raise UserError(
                f"{locate(row)}: column {column.name!r} is {format_cell(cells, row)}, which is not {wanted}; correct "
                "it, or leave the column out by data.ignore"
            )
        values = np.where(empty, column.fill, values)
        return ((values - column.shift) / column.scale).astype(np.float32)[:, None]

    def _one_hot(self, column: Column, labels: pd.Series) -> NDArray[np.float32]:
        import pandas as pd

        codes = pd.Index(column.categories).get_indexer(labels)
        if unseen := int(((codes < 0) & (labels != MISSING).to_numpy()).sum()):
            self.unseen[str(column.name)] += unseen
        encoded = np.zeros((len(labels), column.width), np.float32)
        known = np.flatnonzero(codes >= 0)
        encoded[known, codes[known]] = 1.0
        return encoded

    def notes(self) -> list[str]:
        """The columns and what they were taken for, a line for each kind."""
        titles = {"number": "numbers", "date": "dates, as days", "category": "categories"}
        lines = []
        for kind, title in titles.items():
            described = [_describe(column) for column in self.columns if column.kind == kind]
            lines += [f"{title} ({len(described)}): {_shorten(described)}"] if described else []
        if self.left_out:
            lines.append("left out: " + _shorten([f"{name} ({reason})" for name, reason in self.left_out.items()]))
        if self.imputed:
            counts = [f"{name} ({count:,})" for name, count in self.imputed.items()]
            lines.append("missing cells imputed: " + _shorten(counts))
        return lines

    def unseen_note(self) -> str:
        """A line on categories that the training split lacks; "" where there was none."""
        counts = ", ".join(f"{count:,} of {name!r}" for name, count in self.unseen.items())
        return f"cells with a category that training did not have, which count as none: {counts}" if counts else ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        columns = [asdict(column) for column in self.columns]
        return {"columns": columns, "missing": self.missing, "left_out": self.left_out}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Columns:
        """Columns from plain values.

        Args:
            values: what `to_dict` returned.
        """
        return cls([Column(**column) for column in values["columns"]], values["missing"], dict(values["left_out"]))


@dataclass
class Table:
    """The columns of a table before they are fitted."""

    frame: pd.DataFrame
    kinds: dict[str, ColumnKind]  # of the columns to learn from
    locate: RowLocator
    missing: str = "refuse"  # this and the following as `Columns.fit` takes them
    max_categories: int = 50
    left_out: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frame)

    def fit(self, rows: NDArray[np.int64], scaling: str) -> Columns:
        """The columns fitted to some rows.

        Args:
            rows: row numbers of the training split.
            scaling: as `Columns.fit` takes it.
        """
        return Columns.fit(
            self.frame.iloc[rows],
            self.kinds,
            scaling,
            missing=self.missing,
            max_categories=self.max_categories,
            left_out=self.left_out,
        )


def frame_locator(frame: pd.DataFrame) -> RowLocator:
    """Places of a DataFrame's rows: their labels.

    Args:
        frame: the DataFrame.
    """
    return lambda row: f"row {frame.index[row]}" if row >= 0 else "the DataFrame"


def infer_kind(cells: pd.Series) -> ColumnKind:
    """What a column holds. Dates are those of ISO 8601: 2024-12-31 or 2024-12-31T23:59:59.

    Where most of many distinct cells are numbers, or dates, the others are mistakes; encoding names them.

    Args:
        cells: the column.

    Raises:
        UserError: a cell is neither number, date nor text.
    """
    import pandas as pd
    from pandas.api import types

    if types.is_bool_dtype(cells) or isinstance(cells.dtype, pd.CategoricalDtype):
        return "category"
    _check_type(cells)
    if types.is_numeric_dtype(cells):
        return "number"
    if types.is_datetime64_any_dtype(cells):
        return "date"
    present = cells.dropna()
    if not len(present):
        return "number"
    has_many = present.nunique() > MAX_NUMERIC_CATEGORIES
    if present.astype(str).str.match(ISO_DATE).mean() > 0.5:
        is_date = np.isfinite(numbers_of(present, "date"))
        if is_date.all() or (has_many and is_date.mean() > 0.5):
            return "date"
    if present.map(type).eq(bool).any():
        return "category"
    is_number = pd.to_numeric(present, errors="coerce").notna()  # numbers as objects or text
    return "number" if is_number.all() or (has_many and is_number.mean() > 0.5) else "category"


def _check_type(cells: pd.Series) -> None:
    unsupported = cells.dtype.name if cells.dtype.kind in "cmV" else ""  # complex numbers, durations, structures
    if cells.dtype.kind == "O":
        plain = (str, bool, int, float, Decimal, np.generic, date)
        unsupported = next((type(cell).__name__ for cell in cells.dropna() if not isinstance(cell, plain)), "")
    if unsupported:
        raise UserError(f"column {cells.name!r} holds {unsupported}; make it numbers, text or dates, or leave it out")


def numbers_of(cells: pd.Series, kind: str) -> NDArray[np.float64]:
    """(rows,) cells as numbers, dates as days since 1970; NaN where they are neither.

    Args:
        cells: the column.
        kind: "number" or "date".
    """
    import pandas as pd

    if kind == "date":
        days = pd.to_datetime(cells, format="ISO8601", errors="coerce", utc=True)
        since: NDArray[np.float64] = ((days - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)).to_numpy(float)
        return since
    return pd.to_numeric(cells, errors="coerce").to_numpy(float, na_value=np.nan)


def labels_of(cells: pd.Series) -> pd.Series:
    """Cells as names of categories or classes; "" for a missing one.

    Args:
        cells: the column.
    """
    distinct = {cell: label_of(cell) for cell in cells.dropna().unique()}
    return cells.astype(object).map(distinct).fillna(MISSING)


def label_of(cell: Any) -> str:
    """The name of the category or class in a cell: whole numbers without a point, True and False capitalised.

    Args:
        cell: a number, truth value or text.
    """
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    text = str(cell)
    return text.capitalize() if text.lower() in ("true", "false") else text


def _fit_number(name: str, kind: ColumnKind, values: NDArray[np.float64], scaling: str) -> Column | None:
    """The column fitted to the finite ones of `values`; encoding names the others. None if they are constant."""
    values = values[np.isfinite(values)]
    if not len(values) or values.min() == values.max():
        return None
    shift, scale = 0.0, 1.0
    if scaling == "standard":
        shift, scale = float(values.mean()), float(values.std())
    elif scaling == "range":
        scale = float(np.abs(values).max())
    return Column(name, kind, float(np.median(values)), shift, scale or 1.0)


def _fit_category(name: str, labels: pd.Series, missing: str, max_categories: int) -> Column | None:
    counts = labels.value_counts()
    categories = sorted(label for label in counts.index if label != MISSING or missing == "impute")
    if len(categories) > max_categories:
        example = str(counts.index[-1])
        cure = f"leave it out (data.ignore=[{name}]), or raise data.max_categories"
        if DECIMAL_COMMA.match(example):
            cure = "write its numbers with a decimal point"
        elif OTHER_DATE.match(example):
            cure = f"write its dates as 2024-12-31, or leave it out (data.ignore=[{name}])"
        raise UserError(
            f"column {name!r} is text with {len(categories):,} different values in {len(labels):,} rows of the "
            f"training split, such as {example[:40]!r}: {cure}"
        )
    return Column(name, "category", categories=categories) if len(categories) > 1 else None


def _describe(column: Column) -> str:
    if column.kind != "category":
        return str(column.name)
    return f"{column.name} ({_shorten([category or 'missing' for category in column.categories], 4)})"


def _shorten(words: Sequence[str], limit: int = NAMES_SHOWN) -> str:
    more = f", and {len(words) - limit} more" if len(words) > limit else ""
    return ", ".join(words[:limit]) + more


def format_cell(cells: pd.Series, row: int) -> str:
    """A cell as an error shows it.

    Args:
        cells: the column.
        row: position of the cell, from 0.
    """
    cell = cells.iloc[row]
    return repr(cell) if isinstance(cell, str) else str(cell)
