"""Runs side by side: what was set otherwise, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aibig.errors import UserError


@dataclass
class Comparison:
    """What differs between runs.

    runs: a mapping for each, with path, name, finished, settings (those that are not the same in all, dotted),
    metrics of the test part, best validation of the primary_metric metric by name, and facts: steps, train_seconds,
    parameters, throughput. What a run does not have is left out. report: the page that was written.
    """

    runs: list[dict[str, Any]] = field(default_factory=list)
    report: Path | None = None

    def tables(self) -> dict[str, list[list[Any]]]:
        """Rows by title: a name, then a cell for each run, None where it has none."""
        titles = {"settings": "setting", "metrics": "test metric", "validation": "best validation", "facts": "run"}
        return {title: self._rows(part) for part, title in titles.items()}

    def _rows(self, part: str) -> list[list[Any]]:
        names = list(dict.fromkeys(name for one in self.runs for name in one[part]))
        return [[name, *(one[part].get(name) for one in self.runs)] for name in names]


def compare(*paths: str | Path, report: bool | str | Path = True) -> Comparison:
    """Set the runs in `paths` side by side, also such that have not ended, and write a page of their curves.

    report: where the page goes, by default compare.html in the present folder; False for none.

    Raises UserError if one of `paths` holds no run.
    """
    from aibig.report.comparison_page import write_comparison_page
    from aibig.report.record import read_record

    if not paths:
        raise UserError("name the runs to compare")
    records = [read_record(one) for one in paths]
    named, flat = names([one.path for one in records]), [flattened(one.settings) for one in records]
    sections = list(dict.fromkeys(section for one in records for section in one.settings))
    keys = sorted(dict.fromkeys(key for one in flat for key in one), key=lambda key: sections.index(key.split(".")[0]))
    differing = [key for key in keys if differs(key, flat)]
    comparison = Comparison()
    for record, name, settings in zip(records, named, flat, strict=True):
        finished = record.result is not None
        comparison.runs.append(
            {
                "path": str(record.path),
                "name": name,
                "finished": finished,
                "settings": {key: shown(settings[key]) for key in differing if key in settings},
                "metrics": record.metrics,
                "validation": record.best_validation(),
                "facts": {"state": "finished" if finished else "not ended", **record.facts()},
            }
        )
    if report is not False:
        file = Path("compare.html") if report is True else Path(report)
        comparison.report = write_comparison_page(file, records, named, comparison.tables())
    return comparison


def flattened(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Settings by dotted name."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= flattened(value, f"{before}{key}.") if isinstance(value, Mapping) else {f"{before}{key}": value}
    return flat


def differs(name: str, flat: list[dict[str, Any]]) -> bool:
    """Whether a setting is not the same in all."""
    return any(one.get(name, flat) != flat[0].get(name, flat) for one in flat)


def shown(value: Any) -> Any:
    """A setting in a cell: lists and what is not set in words."""
    return "none" if value is None else value if isinstance(value, int | float) else str(value)


def names(paths: list[Path]) -> list[str]:
    """A short name for each: the folder's own, with those above it where two would be alike."""
    whole = [one.resolve().parts for one in paths]
    for length in range(1, max(map(len, whole)) + 1):
        found = ["/".join(parts[-length:]) for parts in whole]
        if len({*found}) == len({*whole}):
            break
    return found
