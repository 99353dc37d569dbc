"""What a table's columns become before a model sees them: fitted on the training part, kept as plain values.

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

Kind = Literal["number", "date", "category"]
Where = Callable[[int], str]  # the place of a row, in an error: "table.csv:7"

MISSING = ""  # the category of a missing cell
MOST_CATEGORIES_OF_NUMBERS = 20  # more different cells than these, most of them numbers (or dates), are those
SHOWN = 12  # names of columns in a line
ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
OTHER_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}")
DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+$")


@dataclass
class Column:
    """A column as the training part had it.

    A number, or a date as days since 1970, becomes (value - shift) / scale; a missing one counts as `fill`, the
    median. A category becomes a number for each of `categories`, 1 for its own and 0 for the others.
    """

    name: str | int  # a number: its place, where the table has no header
    kind: Kind = "number"
    fill: float = 0.0
    shift: float = 0.0
    scale: float = 1.0
    categories: list[str] = field(default_factory=list)

    @property
    def width(self) -> int:
        """How many numbers it becomes."""
        return len(self.categories) if self.kind == "category" else 1


@dataclass
class Columns:
    """The columns of a table that a model learns from, in order.

    missing: "refuse", or "impute": numbers by the training part's median, categories as one of their own.
    left_out: columns of the training table that are not learned from, and why. unseen: how many cells of which
    column held a category that the training part has not, since this was made; they become zeros. imputed: how many
    were missing.
    """

    columns: list[Column]
    missing: str = "refuse"
    left_out: dict[str, str] = field(default_factory=dict)
    unseen: Counter[str] = field(default_factory=Counter)
    imputed: Counter[str] = field(default_factory=Counter)

    @classmethod
    def fit(
        cls,
        frame: pd.DataFrame,
        kinds: Mapping[str, Kind],
        scaling: str,
        *,
        missing: str = "refuse",
        max_categories: int = 50,
        left_out: Mapping[str, str] | None = None,
    ) -> Columns:
        """Fit to the training part's rows; constant columns are left out.

        scaling: "standard": mean 0 and variance 1 of each number; "range": divided by its largest absolute value;
        "none". Categories stay 0 and 1.

        Raises UserError for a column with more than `max_categories`, and where no column is left.
        """
        columns, without = [], dict(left_out or {})
        for name, kind in kinds.items():
            made: Column | None
            if kind == "category":
                made = _fit_category(name, labels_of(frame[name]), missing, max_categories)
            else:
                made = _fit_number(name, kind, numbers_of(frame[name], kind), scaling)
            if made is None:
                without[name] = "is empty" if frame[name].isna().all() else "is constant"
            else:
                columns.append(made)
        if not columns:
            reasons = "; ".join(f"{name!r} {why}" for name, why in without.items())
            raise UserError(f"no column is left to learn from ({reasons or 'the table has none beside the target'})")
        return cls(columns, missing, without)

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [str(one.name) for one in self.columns]

    @property
    def width(self) -> int:
        """How many numbers a row becomes."""
        return sum(one.width for one in self.columns)

    def encode(self, frame: pd.DataFrame, where: Where) -> NDArray[np.float32]:
        """The rows of `frame` as (rows, width) numbers; columns that are not learned from are passed over.

        Raises UserError naming place and column for a cell that is missing, or no finite number.
        """
        encoded = np.zeros((len(frame), self.width), np.float32)
        place = 0
        for column in self.columns:
            if column.name not in frame:
                raise UserError(f"{where(-1)}: has no column {column.name!r}; name the columns as in training")
            encoded[:, place : place + column.width] = self._encoded(column, frame[column.name], where)
            place += column.width
        return encoded

    def _encoded(self, column: Column, cells: pd.Series, where: Where) -> NDArray[np.float32]:
        empty = cells.isna().to_numpy()
        if self.missing == "refuse" and empty.any():
            row, count = int(empty.argmax()), int(empty.sum())
            rest = f"; so are {count - 1:,} more of the column" if count > 1 else ""
            raise UserError(
                f"{where(row)}: column {column.name!r} is missing{rest}; fill it in, train with data.missing=impute, "
                "or leave the column out by data.ignore"
            )
        if empty.any():
            self.imputed[str(column.name)] += int(empty.sum())
        if column.kind == "category":
            return self._one_hot(column, labels_of(cells))
        values = numbers_of(cells, column.kind)
        bad = ~np.isfinite(values) & ~empty
        if bad.any():
            row = int(bad.argmax())
            wanted = "a finite number" if column.kind == "number" else "a date such as 2024-12-31"
            raise UserError(
                f"{where(row)}: column {column.name!r} is {shown(cells, row)}, which is not {wanted}; correct it, or "
                "leave the column out by data.ignore"
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
        words = {"number": "numbers", "date": "dates, as days", "category": "categories"}
        lines = []
        for kind, name in words.items():
            described = [_described(one) for one in self.columns if one.kind == kind]
            lines += [f"{name} ({len(described)}): {_some(described)}"] if described else []
        if self.left_out:
            lines.append("left out: " + _some([f"{name} ({why})" for name, why in self.left_out.items()]))
        if self.imputed:
            lines.append("missing cells imputed: " + _some([f"{name} ({n:,})" for name, n in self.imputed.items()]))
        return lines

    def unseen_note(self) -> str:
        """What to say of categories that the training part has not; "" where there was none."""
        found = ", ".join(f"{count:,} of {name!r}" for name, count in self.unseen.items())
        return f"cells with a category that training did not have, which count as none: {found}" if found else ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        columns = [asdict(one) for one in self.columns]
        return {"columns": columns, "missing": self.missing, "left_out": self.left_out}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Columns:
        """What `to_dict` gave."""
        return cls([Column(**one) for one in values["columns"]], values["missing"], dict(values["left_out"]))


@dataclass
class Table:
    """The columns of a table that may be learned from, as they come: what `Columns` is fitted to.

    frame: a pandas DataFrame. kinds: what each column holds. where: the place of a row, for errors.
    """

    frame: pd.DataFrame
    kinds: dict[str, Kind]
    where: Where
    missing: str = "refuse"
    max_categories: int = 50
    left_out: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frame)

    def fit(self, rows: NDArray[np.int64], scaling: str) -> Columns:
        """What the columns become, fitted to `rows`."""
        return Columns.fit(
            self.frame.iloc[rows],
            self.kinds,
            scaling,
            missing=self.missing,
            max_categories=self.max_categories,
            left_out=self.left_out,
        )


def frame_place(frame: pd.DataFrame) -> Where:
    """How to name the place of a row of a DataFrame."""
    return lambda row: f"row {frame.index[row]}" if row >= 0 else "the DataFrame"


def find_kind(cells: pd.Series) -> Kind:
    """What a column holds; dates are those of ISO 8601, 2024-12-31 or 2024-12-31T23:59:59.

    Where most of many different cells are numbers, or dates, the others are mistakes, which are named when it is
    encoded.

    Raises UserError for what is neither number, date nor text.
    """
    import pandas as pd
    from pandas.api import types

    if types.is_bool_dtype(cells) or isinstance(cells.dtype, pd.CategoricalDtype):
        return "category"
    _refuse_strange(cells)
    if types.is_numeric_dtype(cells):
        return "number"
    if types.is_datetime64_any_dtype(cells):
        return "date"
    present = cells.dropna()
    if not len(present):
        return "number"
    many = present.nunique() > MOST_CATEGORIES_OF_NUMBERS
    if present.astype(str).str.match(ISO_DATE).mean() > 0.5:
        is_date = np.isfinite(numbers_of(present, "date"))
        if is_date.all() or (many and is_date.mean() > 0.5):
            return "date"
    if present.map(type).eq(bool).any():
        return "category"
    is_number = pd.to_numeric(present, errors="coerce").notna()  # numbers as objects or text
    return "number" if is_number.all() or (many and is_number.mean() > 0.5) else "category"


def _refuse_strange(cells: pd.Series) -> None:
    strange = cells.dtype.name if cells.dtype.kind in "cmV" else ""  # complex numbers, durations, structures
    if cells.dtype.kind == "O":
        plain = (str, bool, int, float, Decimal, np.generic, date)
        strange = next((type(one).__name__ for one in cells.dropna() if not isinstance(one, plain)), "")
    if strange:
        raise UserError(f"column {cells.name!r} holds {strange}; make it numbers, text or dates, or leave it out")


def numbers_of(cells: pd.Series, kind: str) -> NDArray[np.float64]:
    """Cells as numbers, dates as days since 1970; NaN where they are neither."""
    import pandas as pd

    if kind == "date":
        days = pd.to_datetime(cells, format="ISO8601", errors="coerce", utc=True)
        since: NDArray[np.float64] = ((days - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)).to_numpy(float)
        return since
    return pd.to_numeric(cells, errors="coerce").to_numpy(float, na_value=np.nan)


def labels_of(cells: pd.Series) -> pd.Series:
    """Cells as the names of categories: whole numbers without a point, True and False, "" for a missing one."""
    distinct = {cell: label_of(cell) for cell in cells.dropna().unique()}
    return cells.astype(object).map(distinct).fillna(MISSING)


def label_of(cell: Any) -> str:
    """The name of the class or category that a cell holds."""
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    text = str(cell)
    return text.capitalize() if text.lower() in ("true", "false") else text


def _fit_number(name: str, kind: Kind, values: NDArray[np.float64], scaling: str) -> Column | None:
    """The column fitted to the finite ones of `values` (what is wrong with others is said when they are encoded)."""
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
    categories = sorted(one for one in counts.index if one != MISSING or missing == "impute")
    if len(categories) > max_categories:
        example = str(counts.index[-1])
        cure = f"leave it out (data.ignore=[{name}]), or raise data.max_categories"
        if DECIMAL_COMMA.match(example):
            cure = "write its numbers with a decimal point"
        elif OTHER_DATE.match(example):
            cure = f"write its dates as 2024-12-31, or leave it out (data.ignore=[{name}])"
        raise UserError(
            f"column {name!r} is text with {len(categories):,} different values in {len(labels):,} rows of the "
            f"training part, such as {example[:40]!r}: {cure}"
        )
    return Column(name, "category", categories=categories) if len(categories) > 1 else None


def _described(column: Column) -> str:
    if column.kind != "category":
        return str(column.name)
    return f"{column.name} ({_some([one or 'missing' for one in column.categories], 4)})"


def _some(words: Sequence[str], shown: int = SHOWN) -> str:
    more = f", and {len(words) - shown} more" if len(words) > shown else ""
    return ", ".join(words[:shown]) + more


def shown(cells: pd.Series, row: int) -> str:
    """A cell in an error."""
    cell = cells.iloc[row]
    return repr(cell) if isinstance(cell, str) else str(cell)
