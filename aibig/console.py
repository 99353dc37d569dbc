"""How the commands print: tables, rows as they come, text as it is generated. Knows no command."""

from __future__ import annotations

import csv
import json
import math
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aibig.ranks import is_main_rank


def print_once(text: str) -> None:
    """Print on standard output, on the main rank alone.

    Args:
        text: a line.
    """
    if is_main_rank():
        print(text, flush=True)


def print_metrics(metrics: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]) -> None:
    """Print metrics, a line each.

    Args:
        metrics: by name.
        intervals: 95 % intervals of the metrics; empty for none.
    """
    header = ["metric", "value", *(["95 % interval"] if intervals else [])]
    rows: list[list[Any]] = [[name, value] for name, value in metrics.items()]
    for row in rows if intervals else []:
        low, high = intervals[row[0]]
        row.append(f"{low:.6g} to {high:.6g}")
    print_table(header, rows)


def print_settings(title: str, settings: Mapping[str, Mapping[str, str]]) -> None:
    """Print settings: each one's default and what it takes, and below what it is.

    Args:
        title: what has the settings.
        settings: as in `aibig.config.describe.Description`.
    """
    rows = [[name, setting["default"], setting["takes"]] for name, setting in settings.items()]
    header, *lines = _aligned([[title, "default", "takes"], *rows])
    print(header)
    width = max(40, shutil.get_terminal_size((120, 0)).columns)
    for line, setting in zip(lines, settings.values(), strict=True):
        print(line)
        if setting["about"]:
            print(textwrap.fill(setting["about"], width, initial_indent="    ", subsequent_indent="    "))
    print()


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows under their header, and a blank line; nothing without rows.

    Args:
        header: names of the columns.
        rows: their cells.
    """
    if rows:
        print("\n".join(_aligned([header, *([cell_text(cell) for cell in row] for row in rows)])) + "\n")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def cell_text(value: Any) -> str:
    """A value in a table: six digits of a number, nothing for None.

    Args:
        value: of a cell.
    """
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else f"{value:,}" if type(value) is int else str(value)


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Metrics as JSON takes them: null for what is not finite.

    Args:
        metrics: by name.
    """
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def print_rows(rows: Iterator[dict[str, Any]], as_json: bool) -> None:
    """Print rows as they come. An error in the first is raised before anything is printed.

    Args:
        rows: at least one, all with the same keys.
        as_json: whether to print a JSON list instead of CSV with a header.
    """
    first = next(rows)
    if as_json:
        print("[" + json.dumps(first), end="")
        for row in rows:
            print(",\n " + json.dumps(row), end="")
        print("]")
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(first)
    writer.writerow(first.values())
    writer.writerows(row.values() for row in rows)


def print_stream(prefix: str, pieces: Iterator[str], generator: Any) -> None:
    """Print text as it is generated. An error in the prompt is raised before anything is printed.

    Args:
        prefix: printed before the first piece.
        pieces: of the text.
        generator: what yields the pieces; its `note`, if any, goes to standard error.
    """
    first = next(pieces, "")
    if generator.note:
        print(generator.note, file=sys.stderr)
    print(prefix + first, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()
