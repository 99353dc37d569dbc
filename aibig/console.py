"""How the commands print: tables, rows as they come, text as it is made. Knows no command."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aibig.ranks import is_main_rank


def say(text: str) -> None:
    """Print on standard output, once however many ranks there are."""
    if is_main_rank():
        print(text, flush=True)


def show_metrics(metrics: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]) -> None:
    """Print metrics, a line each, with their intervals if there are any."""
    head = ["metric", "value", *(["95 % interval"] if intervals else [])]
    show_table(head, [[name, value, *interval(intervals.get(name))] for name, value in metrics.items()])


def show_rows(rows: Iterator[dict[str, Any]], as_json: bool) -> None:
    """Print rows as they come: CSV with a header, or a JSON list. What is wrong with the first shows before any."""
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


def show_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows under their header, each column as wide as it must be, and a blank line; nothing without rows."""
    if not rows:
        return
    cells = [header, *([cell_text(one) for one in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        print("  ".join(f"{one:{width}}" for one, width in zip(row, widths, strict=True)).rstrip())
    print()


def cell_text(value: Any) -> str:
    """A value in a table of the terminal: six digits of a number, nothing for None."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else f"{value:,}" if type(value) is int else str(value)


def interval(ends: tuple[float, float] | None) -> list[str]:
    """The cell of an interval; none where there is none."""
    return [] if ends is None else [f"{ends[0]:.6g} to {ends[1]:.6g}"]


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Metrics as JSON has them: null for what is not finite."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def stream_out(before: str, pieces: Iterator[str], writer: Any) -> None:
    """Print pieces of text as they come. What is wrong with a prompt shows before anything is printed."""
    first = next(pieces, "")
    if writer.note:
        print(writer.note, file=sys.stderr)
    print(before + first, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()
