"""A run as its folder tells it, finished or not: settings, log, result. Knows no task by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aibig.config.registry import tasks
from aibig.config.settings import load
from aibig.config.yaml_file import read_yaml
from aibig.errors import UserError
from aibig.metrics.functions import LOWER_IS_BETTER
from aibig.training.checkpoints.run_folder import CONFIG, read_result
from aibig.training.logs.logbook import FILE, read_lines


@dataclass
class Record:
    """What stands in a run's folder. `result` is None while the run has not ended."""

    path: Path
    settings: dict[str, Any]
    lines: list[dict[str, Any]]
    result: dict[str, Any] | None

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    @property
    def metrics(self) -> dict[str, float]:
        """Those of the test part, measured when the run ended; not finite ones are left out."""
        return {} if self.result is None else {k: v for k, v in self.result["metrics"].items() if v is not None}

    @property
    def primary_metric(self) -> str:
        """The metric that selects the best model."""
        chosen: str | None = self.settings.get("trainer", {}).get("best_metric")
        try:
            return chosen or load(tasks.entry(self.settings["task"]["name"]).target).primary_metric  # type: ignore[attr-defined]
        except UserError:  # a task of someone's own that is not imported here
            return "loss"

    def curve(self, kind: str, name: str) -> tuple[list[float], list[float]]:
        """(steps, values) of what the log's lines of a kind, "train" or "validation", say of `name`."""
        there = [line for line in self.lines if line["kind"] == kind and _is_number(line.get(name))]
        return [line["step"] for line in there], [line[name] for line in there]

    def logged(self, kind: str) -> list[str]:
        """The names of the numbers in the log's lines of a kind."""
        names = (name for line in self.lines if line["kind"] == kind for name, one in line.items() if _is_number(one))
        return list(dict.fromkeys(names))

    @property
    def rates(self) -> list[str]:
        """The names of what was logged a second."""
        return [name for name in self.logged("train") if name.endswith("_per_second")]

    def best_validation(self) -> dict[str, float]:
        """The best value of the primary_metric metric so far, by its name; empty before the first evaluation."""
        values = self.curve("validation", self.primary_metric)[1]
        best = min if self.primary_metric in LOWER_IS_BETTER else max
        return {self.primary_metric: best(values)} if values else {}

    def facts(self) -> dict[str, Any]:
        """Steps, seconds of training, parameters, throughput: what is known of them so far."""
        if self.result is not None:
            rate = self.result["throughput"]
            facts = {name: self.result[name] for name in ("steps", "train_seconds", "parameters")}
            return {**facts, "throughput": f"{rate['value']:,.0f} {rate['unit']}"}
        steps, seconds = self.curve("train", "seconds")
        return {"steps": steps[-1], "train_seconds": seconds[-1]} if steps else {}


def is_run(path: Path) -> bool:
    """Whether there is a run in a folder."""
    return (path / CONFIG).is_file()


def read_record(path: str | Path) -> Record:
    """The run in the folder `path`. Raises UserError if there is none."""
    folder = Path(path)
    if not is_run(folder):
        raise UserError(f"{path}: holds no run (no {CONFIG}); give a run's folder, such as runs/digits-0001")
    lines = read_lines(folder) if (folder / FILE).is_file() else []
    return Record(folder, read_yaml(folder / CONFIG)[0], lines, read_result(folder))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
