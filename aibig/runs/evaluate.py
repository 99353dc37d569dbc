"""A run evaluated again, on its own data or on others, and its page."""

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

    - intervals: (low, high) of each metric, where they were asked for
    - per_class: a row for each class, where there are classes
    - outcome: predictions and targets, or episodes (aibig.metrics.outcomes); None where the task gives only metrics
    - report: the page that was written, None if none was
    - note: what there is to say of a run that has not ended; its metrics are empty

    Args:
        metrics: by name.
        outcome: see above.
        note: see above.
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

    A run that has not ended has a page of its curves, and no metrics.

    Args:
        path: the run's folder; with `data` also a model's folder without its run.
        data: a file or folder to evaluate on instead of the run's own data. Data, or an environment, that the run got
            as an object are passed here again, and `split` is a split of them.
        split: "test", which training ended with, or "validation".
        bootstrap: whether to compute 95 % intervals, from 1,000 resamples.
        report: file of the page; True for report.html in the folder (report-NAME.html for other splits and data),
            False for no page.

    Raises:
        UserError: there is neither run nor model, no such split, or the data are gone.
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
        raise UserError(f"{path}: this task gives only metrics, so there is nothing to resample; leave out --bootstrap")
    if report is not False:
        name = Path(data).stem if data is not None else split
        file = folder / ("report.html" if name == "test" and data is None else f"report-{name}.html")
        command = [str(folder), *([str(data)] if data is not None else []), *(["--bootstrap"] if bootstrap else [])]
        command += ["--split", split] if split != "test" else []
        on = str(data) if data is not None else f"the {split} split"
        _write_report(file if report is True else Path(report), record, evaluation, folder, on, command)
    return evaluation


def evaluate_data(path: str | Path, data: str | Path) -> Outcome:
    """What a model predicts of a file or folder, and the targets there.

    Args:
        path: folder of a run or of a model.
        data: the file or folder.

    Raises:
        UserError: there is no such file, or the model can't be evaluated on one.
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
    """The run's model on a split of the run's own data, by the run's own task; `data` is the object that these were."""
    from aibig.pretrained.model_folder import load_model
    from aibig.runs.train import build

    overrides: dict[str, Any] = {"trainer.device": "auto"}  # it may have been another machine's
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
    """The section of a run, "data" or "env", whose name was an object.

    Args:
        path: the run's folder.

    Raises:
        UserError: none was.
    """
    sections, _ = read_yaml(path / "config.yaml")
    for section in ("data", "env"):
        if str(sections.get(section, {}).get("name", "")).startswith("<"):
            return section
    raise UserError(f"{path}: was not given an object as data; give a file or folder to measure on")


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
