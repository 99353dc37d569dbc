"""Evaluates a run on its own or on other data, and writes its page."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aibig.config.run_config import load_config
from aibig.config.yaml_file import read_yaml
from aibig.errors import UserError

if TYPE_CHECKING:
    from aibig.metrics.outcomes import Outcome
    from aibig.report.record import RunRecord


class Evaluation(dict[str, float]):
    """Metrics by name, and beside them:

    - intervals: (low, high) of each metric, with `bootstrap`
    - per_class: a row for each class, if there are classes
    - outcome: predictions and targets, or episodes (aibig.metrics.outcomes); None if the task has only metrics
    - report: file of the page; None without a page
    - note: a remark about a run that has not ended, which has no metrics

    Args:
        metrics: metrics by name.
        outcome: predictions and targets, or episodes.
        note: remark about a run that has not ended.
    """

    intervals: dict[str, tuple[float, float]]
    per_class: list[dict[str, Any]]
    outcome: Outcome | None
    report: Path | None
    note: str

    def __init__(self, metrics: dict[str, float], outcome: Outcome | None = None, note: str = "") -> None:
        super().__init__(metrics)
        self.outcome, self.note, self.report = outcome, note, None
        self.intervals, self.per_class = {}, []


def evaluate(
    path: str | Path,
    data: Any = None,
    *,
    split: str = "test",
    bootstrap: bool = False,
    report: bool | str | Path = True,
) -> Evaluation:
    """Evaluate the model of a run on a split of its own data, or on other data, and write its page.

    A run that has not ended has a page with its curves, and no metrics.

    Args:
        path: folder of the run; with `data` also the folder of a model.
        data: file or folder to evaluate on instead of the run's own data. If data or environment of the run were an
            object, the object, of which `split` is evaluated.
        split: "test", as at the end of training, or "validation".
        bootstrap: whether 95 % intervals are computed, from 1,000 resamples.
        report: file of the page; True: report.html in the folder (report-NAME.html for other splits and data); False:
            no page.

    Raises:
        UserError: there is no run or model, or no such split, or the data are missing.
    """
    from aibig.metrics.outcomes import bootstrap as resample
    from aibig.report.record import is_run, read_run_record

    if split not in ("test", "validation"):
        raise UserError(f"split must be 'test' or 'validation', not {split!r}")
    folder = Path(path)
    if not is_run(folder) and data is None and (folder / "model.json").is_file():
        raise UserError(f"{path}: is a model without its run; name the data to evaluate it on")
    record = read_run_record(folder) if is_run(folder) or data is None else None
    if record is not None and record.result is None:
        evaluation = Evaluation({}, note=f"{path}: the run has not ended, so there is no model to evaluate yet")
        if not report or data is not None:
            raise UserError(f"{evaluation.note}; go on with --resume --out {path}")
    elif isinstance(data, str | Path):
        outcome = evaluate_data(folder, data)
        evaluation = Evaluation(outcome.metrics(), outcome)
    else:
        evaluation, data = _evaluate_split(folder, split, data), None
    if evaluation.outcome is not None:
        evaluation.intervals = resample(evaluation.outcome) if bootstrap else {}
        evaluation.per_class = getattr(evaluation.outcome, "per_class", list)()
    elif bootstrap and evaluation:
        raise UserError(f"{path}: this task has only metrics, which can't be resampled; leave out --bootstrap")
    if report is not False:
        name = Path(data).stem if data is not None else split
        file = folder / ("report.html" if name == "test" and data is None else f"report-{name}.html")
        command = [str(folder), *([str(data)] if data is not None else []), *(["--bootstrap"] if bootstrap else [])]
        command += ["--split", split] if split != "test" else []
        on = str(data) if data is not None else f"the {split} split"
        _write_report(file if report is True else Path(report), record, evaluation, folder, on, command)
    return evaluation


def evaluate_data(path: str | Path, data: str | Path) -> Outcome:
    """Predictions of a model for a file or folder, and the targets there.

    Args:
        path: folder of a run or of a model.
        data: file or folder.

    Raises:
        UserError: there is no such file, or the model can't be evaluated on files.
    """
    from aibig.inference.predictor import load_predictor

    if not Path(data).exists():
        raise UserError(f"{data}: no such file or folder to evaluate on")
    predictor = load_predictor(path)
    if not hasattr(predictor, "outcome"):
        raise UserError(f"{data}: the model in {path} can't be evaluated on a file; leave DATA out to evaluate the run")
    outcome: Outcome = predictor.outcome(data)
    return outcome


def _evaluate_split(path: Path, split: str, data: Any = None) -> Evaluation:
    """Evaluate on a split of the run's own data, with the run's task. `data` is the object that these were, or None."""
    from aibig.pretrained.model_folder import load_model
    from aibig.runs.train import build

    overrides: dict[str, Any] = {"trainer.device": "auto"}  # the run may be of another machine
    if data is not None:
        overrides[f"{section_of_object(path)}.name"] = data
    config = load_config(path / "config.yaml", overrides)
    config.skip_initial_weights = True
    model: Any = load_model(path)
    trainer, task = build(config)
    task.model.load_state_dict(model.state_dict())
    outcome = trainer.outcome(task, split)
    metrics = trainer.evaluate(task, split) if outcome is None else outcome.metrics()
    if not metrics:
        raise UserError(f"{path}: the run has no {split} split; give data to evaluate on, or another --split")
    return Evaluation(metrics, outcome)


def section_of_object(path: Path) -> str:
    """The section of a run, "data" or "env", that has an object in place of a name.

    Args:
        path: folder of the run.

    Raises:
        UserError: there is none.
    """
    sections, _ = read_yaml(path / "config.yaml")
    for section in ("data", "env"):
        if str(sections.get(section, {}).get("name", "")).startswith("<"):
            return section
    raise UserError(f"{path}: has no object as data or environment; give a file or folder to evaluate on")


def _write_report(
    file: Path, record: RunRecord | None, evaluation: Evaluation, folder: Path, on: str, command: list[str]
) -> None:
    from aibig.report.run_page import EvaluationRecord, write_run_page

    outcome = evaluation.outcome
    if outcome is not None:
        on += f", {len(outcome):,} {outcome.unit}"
    words = shlex.join(["aibig", "evaluate", *command])
    shown = EvaluationRecord(on, words, evaluation, evaluation.intervals, outcome)
    evaluation.report = write_run_page(file, folder, record, shown)
