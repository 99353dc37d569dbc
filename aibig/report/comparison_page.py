"""The page of several runs: what differs, and their curves in the same figures. Knows no task by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aibig.report import figures, page
from aibig.report.figures import Line
from aibig.report.record import RunRecord


def write_comparison_page(
    file: Path, records: Sequence[RunRecord], names: Sequence[str], tables: Mapping[str, list[list[Any]]]
) -> Path:
    """Write the page.

    Args:
        file: where it goes.
        records: of the runs.
        names: of the runs.
        tables: rows by title: "setting", "test metric", "best validation", "run"; a row has a name and a cell for each
            run.

    Returns:
        The file.

    Raises:
        UserError: the file can't be written.
    """
    settings = [[cell if cell is None else str(cell) for cell in row] for row in tables["setting"]]
    tables = {**tables, "setting": settings}
    titles = {"setting": "Settings that differ", "test metric": "Metrics of the test split"}
    titles |= {"best validation": "Best validation so far", "run": "The runs"}
    return page.write_page(
        file,
        "Comparison",
        " · ".join(names),
        [
            *(page.section(titles[name], page.table([name, *names], rows)) for name, rows in tables.items()),
            page.section("Curves", page.grid(*overlaid_curves(records, names))),
        ],
    )


def overlaid_curves(records: Sequence[RunRecord], names: Sequence[str]) -> list[str]:
    """A figure for each number that runs log, with a curve for each run that does.

    Args:
        records: of the runs.
        names: of the runs.
    """
    curves = [("train", "loss"), ("validation", "loss"), ("validation", "log_loss")]
    curves += [("validation", record.primary_metric) for record in records]
    curves += [("train", "lr"), ("train", "gradient_norm")]
    curves += [("train", rate) for record in records for rate in record.rates]
    parts = []
    for kind, name in dict.fromkeys(curves):
        lines = [Line(run, *record.curve(kind, name)) for record, run in zip(records, names, strict=True)]
        if any(len(line.x) for line in lines):
            title = f"{'Training' if kind == 'train' else 'Validation'}: {page.readable(name)}"
            image = figures.curves(lines, x="step", y=page.readable(name), log=name == "gradient_norm", legend=True)
            parts.append(page.figure(title, image))
    return parts
