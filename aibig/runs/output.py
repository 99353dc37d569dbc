"""Output of training: lines during a run, and its results. Imports no torch."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aibig.console import print_once
from aibig.metrics.names import metrics_line
from aibig.ranks import is_main_rank
from aibig.training.callbacks import Callback, TrainerView

if TYPE_CHECKING:
    from aibig.runs.seeds import SeedRuns
    from aibig.training.checkpoints.run_folder import Run


class ProgressLines(Callback):
    """Prints a run's folder on standard error and, where no progress bar is shown, the metrics of its evaluations."""

    def on_begin(self, trainer: TrainerView) -> None:
        """Print the run's folder, which --out names at a resume, should the process be killed."""
        self._trainer = trainer
        print(f"run: {trainer.run_folder}", file=sys.stderr)

    def on_evaluation(self, record: Mapping[str, Any]) -> None:
        """Print the metrics, except those of the test, which `print_result` prints."""
        if record["kind"] != "test" and not sys.stderr.isatty():
            counters = {"kind", *self._trainer.progress.counters()}
            metrics = {name: value for name, value in record.items() if name not in counters}
            print(f"step {record['step']:,}: {record['kind']} {metrics_line(metrics)}", file=sys.stderr, flush=True)


def print_result(run: Run, as_json: bool = False) -> int:
    """Print the results of a run.

    Args:
        run: finished or interrupted.
        as_json: whether to print a JSON object.

    Returns:
        The exit code: 0, 2 if the run diverged, 130 if it was interrupted.
    """
    result = run.result
    if result is None:
        return _print_interrupted(run.path, as_json)
    if as_json:
        print_once(json.dumps({"path": str(run.path), **result}))
    else:
        throughput = f"{result['throughput']['value']:,.0f} {result['throughput']['unit']}"
        length = f"{result['steps']:,} steps in {result['train_seconds']:.1f} s of training ({throughput})"
        print_once(f"test: {metrics_line(result['metrics'])}")
        print_once(f"{length}, ended by {result.get('stopped_by', 'its limit')}; run: {run.path}")
    if None not in result["metrics"].values():
        return 0
    if is_main_rank():
        cure = "lower optimizer.lr or set trainer.clip_norm"
        print(f"the model diverged: its outputs are not finite; {cure}", file=sys.stderr)
    return 2


def print_seed_results(runs: SeedRuns, as_json: bool = False) -> int:
    """Print the results of runs with several seeds.

    Args:
        runs: finished or interrupted.
        as_json: whether to print a JSON object.

    Returns:
        The exit code: 0, 2 if all diverged, 130 if they were interrupted.
    """
    if not runs.is_complete:
        return _print_interrupted(runs.path, as_json)
    if as_json:
        print_once(json.dumps({"path": str(runs.path), **runs.to_dict()}))
    else:
        for name, metric in runs.metrics.items():
            std = metric["standard_deviation"]
            spread = "" if std is None else f" +- {std:.2g}"
            print_once(f"{name:26} {metric['mean']:.4g}{spread}  ({metric['lowest']:.4g} to {metric['highest']:.4g})")
        diverged = f"; diverged: {', '.join(map(str, runs.diverged))}" if runs.diverged else ""
        print_once(f"mean +- standard deviation of {len(runs.values)} seeds{diverged}; runs: {runs.path}")
    return 0 if runs.values else 2


def _print_interrupted(folder: Path, as_json: bool) -> int:
    """Print how to resume an interrupted run."""
    if as_json:
        print_once(json.dumps({"path": str(folder), "stopped_by": "interrupted"}))
    else:
        command = f"python -m aibig.train --resume --out {folder}"
        print_once(f"interrupted; everything so far is kept; go on with: {command}")
    return 130
