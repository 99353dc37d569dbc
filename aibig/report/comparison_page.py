"""The page of several runs: what differs, and their curves over each other. Knows no task by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aibig.report import figures, page
from aibig.report.figures import Line
from aibig.report.record import Record


def write_comparison_page(
    file: Path, records: Sequence[Record], names: Sequence[str], tables: Mapping[str, list[list[Any]]]
) -> Path:
    """Write the page. Raises UserError if it can't be written."""
    tables = {**tables, "setting": [[one if one is None else str(one) for one in row] for row in tables["setting"]]}
    titles = {"setting": "Settings that differ", "test metric": "Metrics of the test part"}
    titles |= {"best validation": "Best validation so far", "run": "The runs"}
    return page.write_page(
        file,
        "Comparison",
        " · ".join(names),
        [
            *(page.section(titles[name], page.table([name, *names], rows)) for name, rows in tables.items()),
            page.section("Curves", page.grid(*overlaid(records, names))),
        ],
    )


def overlaid(records: Sequence[Record], names: Sequence[str]) -> list[str]:
    """A picture for each thing that runs log, with a curve for each run that does."""
    wanted = [("train", "loss"), ("validation", "loss"), ("validation", "log_loss")]
    wanted += [("validation", one) for one in dict.fromkeys(record.primary_metric for record in records)]
    wanted += [("train", "lr"), ("train", "gradient_norm")]
    wanted += [("train", one) for one in dict.fromkeys(rate for record in records for rate in record.rates)]
    pictures = []
    for kind, name in dict.fromkeys(wanted):
        lines = [Line(own, *record.curve(kind, name)) for record, own in zip(records, names, strict=True)]
        if any(len(line.x) for line in lines):
            title = f"{'Training' if kind == 'train' else 'Validation'}: {page.words(name)}"
            picture = figures.curves(lines, x="step", y=page.words(name), log=name == "gradient_norm", legend=True)
            pictures.append(page.figure(title, picture))
    return pictures
