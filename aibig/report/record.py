"""A run read from its folder, finished or not: settings, log, result. Knows no task by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aibig.config.registry import tasks
from aibig.config.settings import import_object
from aibig.config.yaml_file import read_yaml
from aibig.errors import UserError
from aibig.metrics.names import LOWER_IS_BETTER
from aibig.training.checkpoints.run_folder import CONFIG, read_result
from aibig.training.logs.run_log import METRICS_FILE, read_lines


@dataclass
class RunRecord:
    """What stands in a run's folder.

    Args:
        path: the folder.
        settings: those of config.yaml.
        lines: those of the log, metrics.jsonl.
        result: that of result.json; None while the run has not ended.
    """

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
        """Those of the test split, measured when the run ended; not finite ones are left out."""
        return {} if self.result is None else {k: v for k, v in self.result["metrics"].items() if v is not None}

    @property
    def primary_metric(self) -> str:
        """The metric that selects the best model."""
        best_metric: str | None = self.settings.get("trainer", {}).get("best_metric")
        try:
            return best_metric or import_object(tasks.entry(self.settings["task"]["name"]).target).primary_metric  # type: ignore[attr-defined]
        except UserError:  # a task of someone's own that is not imported here
            return "loss"

    def curve(self, kind: str, name: str) -> tuple[list[float], list[float]]:
        """The course of a logged number.

        Args:
            kind: of the log's lines, "train" or "validation".
            name: of the number.

        Returns:
            Steps and values.
        """
        lines = [line for line in self.lines if line["kind"] == kind and _is_number(line.get(name))]
        return [line["step"] for line in lines], [line[name] for line in lines]

    def logged(self, kind: str) -> list[str]:
        """The names of the numbers in the log.

        Args:
            kind: of the log's lines, "train" or "validation".
        """
        lines = (line for line in self.lines if line["kind"] == kind)
        return list(dict.fromkeys(name for line in lines for name, value in line.items() if _is_number(value)))

    @property
    def rates(self) -> list[str]:
        """The names of the throughputs in the log."""
        return [name for name in self.logged("train") if name.endswith("_per_second")]

    def best_validation(self) -> dict[str, float]:
        """The best value of the primary metric so far, by its name; empty before the first evaluation."""
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
    """Whether a folder is that of a run.

    Args:
        path: the folder.
    """
    return (path / CONFIG).is_file()


def read_run_record(path: str | Path) -> RunRecord:
    """Read a run.

    Args:
        path: its folder.

    Raises:
        UserError: there is no run in it.
    """
    folder = Path(path)
    if not is_run(folder):
        raise UserError(f"{path}: holds no run (no {CONFIG}); give a run's folder, such as runs/digits-0001")
    lines = read_lines(folder) if (folder / METRICS_FILE).is_file() else []
    return RunRecord(folder, read_yaml(folder / CONFIG)[0], lines, read_result(folder))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
