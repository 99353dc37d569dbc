"""CSV files: how one is written, its rows as cells or as typed columns, the line of a row. Knows no feature or target.

A place, in errors, is "FILE:LINE".
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aibig.data.tables.columns import DECIMAL_COMMA
from aibig.errors import UserError, nearest
from aibig.files import read_utf8

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = ",\t;|"
SNIFFED_LINES = 50  # from which the dialect is inferred
COLUMNS_SHOWN = 20  # in an error

NumberedRow = tuple[int, list[str]]  # line number, cells


class CsvDialect(NamedTuple):
    """How a CSV file is written."""

    header: list[str]  # cells of its first line
    separator: str
    decimal: str  # decimal mark: "." or ","


def read_frame(path: str | Path, separator: str = "auto", text_columns: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of a CSV file with a header, as typed columns.

    Args:
        path: the file.
        separator: character between cells; "auto" infers it.
        text_columns: names of columns that stay text even if they look like numbers; absent ones are ignored.

    Raises:
        UserError: the file is not a table with a header and rows; it names file, line and cure.
    """
    dialect = sniff_dialect(path, separator)
    check_unique(dialect.header, f"{path}:1")
    present = [name for name in text_columns if name in dialect.header]
    (frame,) = read_chunks(path, dialect, dialect.header, text_columns=present)
    if not len(frame):
        raise UserError(f"{path}: has a header and no rows")
    return frame


def read_chunks(
    path: str | Path,
    dialect: CsvDialect,
    names: Sequence[str | int],
    *,
    has_header: bool = True,
    chunk_rows: int | None = None,
    text_columns: Sequence[str | int] = (),
) -> Iterator[pd.DataFrame]:
    """The rows of a CSV file as typed columns, chunk by chunk.

    Args:
        path: the file.
        dialect: how it is written.
        names: what to call its columns.
        has_header: whether the first line is a header, which is skipped.
        chunk_rows: rows of a chunk; None reads all at once.
        text_columns: names of columns that stay text even if they look like numbers.

    Raises:
        UserError: a line has too many cells, or the file is not text.
    """
    import pandas as pd

    with csv_errors(path):
        read = pd.read_csv(
            path,
            sep=dialect.separator,
            decimal=dialect.decimal,
            header=0 if has_header else None,
            names=list(names),
            index_col=False,
            dtype=dict.fromkeys(text_columns, "str"),
            skipinitialspace=True,
            encoding="utf-8-sig",
            low_memory=False,
            chunksize=chunk_rows,
        )
        yield from [read] if chunk_rows is None else read


def sniff_dialect(path: str | Path, separator: str = "auto") -> CsvDialect:
    """How a CSV file is written, inferred from its first lines.

    Args:
        path: the file.
        separator: character between cells; "auto" takes the one that divides the header most often.

    Raises:
        UserError: the file is absent or empty, or its first row has more cells than the header.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; give a .csv file")
    if len(separator) != 1 and separator != "auto":
        raise UserError(f"the separator {separator!r} is not one character; leave it out, or give one such as ';'")
    with csv_errors(path), Path(path).open(encoding="utf-8-sig", newline="") as file:
        lines = list(itertools.islice((line for line in file if line.strip()), SNIFFED_LINES))
        if not lines:
            raise UserError(f"{path}: is empty; it needs a line for each row")
        if separator == "auto":
            separator = max(SEPARATORS, key=lambda character: len(next(csv.reader(lines[:1], delimiter=character))))
        header, *rows = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    if rows and len(rows[0]) > len(header):
        line = line_of(path, 0, separator)
        raise UserError(f"{path}:{line}: has {len(rows[0])} columns, the line before {len(header)}; name every column")
    cells = [cell.strip() for row in rows for cell in row]
    decimal = "," if separator == ";" and any(map(DECIMAL_COMMA.match, cells)) else "."
    return CsvDialect([cell.strip() for cell in header], separator, decimal)


def read_cells(path: str | Path) -> list[NumberedRow]:
    """The rows of a table of text, without blank ones. Rows may differ in length; a header counts as a row.

    Cells are separated by tabs if the first line has one; quotation marks are then text. Otherwise they are separated
    by commas, and quotation marks enclose cells.

    Args:
        path: the file.

    Returns:
        (line number, cells) of each row.

    Raises:
        UserError: the file is not UTF-8 text or is empty, or a line is not CSV.
    """
    content = read_utf8(path)
    lines = content.split("\n")
    if "\t" in next(line for line in lines if line.strip()):
        return [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line.strip()]
    reader = csv.reader(io.StringIO(content))
    try:
        return [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: is not a line of a CSV file: {error}") from None


def line_of(path: str | Path, row: int, separator: str, has_header: bool = True) -> int:
    """The line that a row begins on. It reads the file again, so only errors ask for it.

    Args:
        path: the file.
        row: number of the row, from 0; -1 is the header.
        separator: character between cells.
        has_header: whether the first line is a header.
    """
    remaining = row + has_header
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=separator)
        first_line = 1
        for cells in reader:
            if len(cells) > 1 or "".join(cells).strip():  # blank lines are not rows
                if remaining <= 0:
                    return first_line
                remaining -= 1
            first_line = reader.line_num + 1
    return first_line


def check_unique(names: Iterable[str], place: str) -> None:
    """Check that no two columns have the same name.

    Args:
        names: names of the columns.
        place: where they stand, for the error.

    Raises:
        UserError: two columns have the same name, or none.
    """
    known: set[str] = set()
    for name in names:
        if name in known:
            duplicates = f"two columns named {name!r}" if name else "two columns without a name"
            raise UserError(f"{place}: has {duplicates}; rename one")
        known.add(name)


def check_columns(names: Iterable[str], known: Collection[str], place: str) -> None:
    """Check that a table has the columns that are asked for.

    Args:
        names: columns that are asked for.
        known: columns of the table.
        place: where those stand, for the error.

    Raises:
        UserError: the table lacks a column.
    """
    for name in names:
        if name not in known:
            hint = nearest(name, known) or f"; it has: {', '.join([*known][:COLUMNS_SHOWN])}"
            raise UserError(f"{place}: has no column {name!r}{hint}")


@contextmanager
def csv_errors(path: str | Path) -> Iterator[None]:
    """Turn what reading a CSV file raises into a UserError.

    Args:
        path: the file.

    Raises:
        UserError: names file, line and cure.
    """
    from pandas.errors import ParserError

    try:
        yield
    except UnicodeDecodeError:
        read_utf8(path)  # raises with the byte's number
        raise
    except (ParserError, csv.Error) as error:
        too_long = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        if too_long:
            raise UserError(
                f"{path}:{too_long[2]}: has {too_long[3]} columns, the lines before {too_long[1]}; quote cells that "
                "hold the separator"
            ) from None
        raise UserError(f"{path}: is not a table: {str(error).strip()}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
