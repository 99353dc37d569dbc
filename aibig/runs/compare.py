"""Compares runs: the settings that differ, and the results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aibig.errors import UserError


@dataclass
class Comparison:
    """The differences between runs.

    Args:
        runs: for each run its path, name, whether it is finished, settings (dotted key -> value, of those that differ),
            test metrics, validation (the best value of the primary metric) and facts (state, steps, train_seconds,
            parameters, throughput). Missing values are left out.
        report: file of the page; None without a page.
    """

    runs: list[dict[str, Any]] = field(default_factory=list)
    report: Path | None = None

    def tables(self) -> dict[str, list[list[Any]]]:
        """The rows of each table by its title: a name, then a cell for each run; None for a missing value."""
        titles = {"settings": "setting", "metrics": "test metric", "validation": "best validation", "facts": "run"}
        return {title: self._rows(part) for part, title in titles.items()}

    def _rows(self, part: str) -> list[list[Any]]:
        names = list(dict.fromkeys(name for run in self.runs for name in run[part]))
        return [[name, *(run[part].get(name) for run in self.runs)] for name in names]


def compare(*paths: str | Path, report: bool | str | Path = True) -> Comparison:
    """Compare runs, also unfinished ones, and write a page with their curves.

    Args:
        paths: folders of the runs.
        report: file of the page; True: compare.html in the current folder; False: no page.

    Raises:
        UserError: a folder is not that of a run, or the page can't be written.
    """
    from aibig.report.comparison_page import write_comparison_page
    from aibig.report.record import read_run_record

    if not paths:
        raise UserError("name the runs to compare")
    records = [read_run_record(path) for path in paths]
    names = short_names([record.path for record in records])
    flat = [flatten(record.settings) for record in records]
    sections = list(dict.fromkeys(section for record in records for section in record.settings))
    keys = sorted(
        {key: None for settings in flat for key in settings}, key=lambda key: sections.index(key.split(".")[0])
    )
    differing = [key for key in keys if differs(key, flat)]
    comparison = Comparison()
    for record, name, settings in zip(records, names, flat, strict=True):
        finished = record.result is not None
        comparison.runs.append(
            {
                "path": str(record.path),
                "name": name,
                "finished": finished,
                "settings": {key: cell_value(settings[key]) for key in differing if key in settings},
                "metrics": record.metrics,
                "validation": record.best_validation(),
                "facts": {"state": "finished" if finished else "not ended", **record.facts()},
            }
        )
    if report is not False:
        file = Path("compare.html") if report is True else Path(report)
        comparison.report = write_comparison_page(file, records, names, comparison.tables())
    return comparison


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted key.

    Args:
        settings: sections with their settings.
        prefix: prefix of all keys.
    """
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def differs(key: str, flat: list[dict[str, Any]]) -> bool:
    """Whether a setting differs between runs.

    Args:
        key: dotted key of the setting.
        flat: settings of each run by dotted key.
    """
    return any(settings.get(key, flat) != flat[0].get(key, flat) for settings in flat)


def cell_value(value: Any) -> Any:
    """The cell of a setting in a table: a number, or text.

    Args:
        value: value of the setting.
    """
    return "none" if value is None else value if isinstance(value, int | float) else str(value)


def short_names(paths: list[Path]) -> list[str]:
    """A short name for each run: the name of its folder, with parent folders if two were equal.

    Args:
        paths: folders of the runs.
    """
    parts = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len({*names}) == len({*parts}):
            break
    return names
