"""A run measured again and looked at: on its own data or on others."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aibig.config.run_config import load_config
from aibig.config.yaml_file import read_yaml
from aibig.errors import UserError

if TYPE_CHECKING:
    from aibig.metrics.outcomes import Outcome
    from aibig.report.record import Record


class Evaluation(dict[str, float]):
    """Metrics by name, and beside them what else was found.

    intervals: (low, high) of each metric, where they were asked for. per_class: a row for each class, where there
    are classes. outcome: what was seen (aibig.metrics.outcomes), None where the task gives only metrics. report: the page
    that was written. note: what there is to say of a run that has not ended; its metrics are empty.
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
    """Measure the model of the run in `path` on a part of its own data, or on other data, and write its page.

    split: "test", as training ended with, or "validation". data: a file or folder to measure on instead, a text for
    a language model say; then `path` may also be a model's folder without its run. Data, or an environment, that the
    run was given as an object are given again here, and `split` is a part of them. bootstrap: 95 % intervals, from
    1,000 resamples. report: where the page goes, by default report.html in the folder (report-NAME.html for other
    parts and data); False for none.

    A run that has not ended has a page of its curves, and no metrics. Raises UserError if there is neither run nor
    model, no such part, or the data are gone.
    """
    from aibig.metrics.outcomes import bootstrap as resample
    from aibig.report.record import is_run, read_record

    if split not in ("test", "validation"):
        raise UserError(f"split must be 'test' or 'validation', not {split!r}")
    folder = Path(path)
    if not is_run(folder) and data is None and (folder / "model.json").is_file():
        raise UserError(f"{path}: is a model without its run; name the data to measure it on")
    record = read_record(folder) if is_run(folder) or data is None else None
    given_again = data is not None and not isinstance(data, str | Path)
    if record is not None and record.result is None:
        evaluation = Evaluation({}, note=f"{path}: the run has not ended, so there is no model to measure yet")
        if not report or data is not None:
            raise UserError(f"{evaluation.note}; go on with --resume --out {path}")
    elif given_again:
        evaluation, data = _measure_part(folder, split, data), None
    elif data is not None:
        seen = measure(folder, data)
        evaluation = Evaluation(seen.metrics(), seen)
    else:
        evaluation = _measure_part(folder, split)
    outcome = evaluation.outcome
    if outcome is not None:
        evaluation.intervals = resample(outcome) if bootstrap else {}
        evaluation.per_class = outcome.per_class() if hasattr(outcome, "per_class") else []
    elif bootstrap and evaluation:
        raise UserError(f"{path}: this task gives only metrics, so there is nothing to resample; leave out --bootstrap")
    if report is not False:
        name = Path(data).stem if data is not None else split
        file = folder / ("report.html" if name == "test" and data is None else f"report-{name}.html")
        command = [str(folder), *([str(data)] if data is not None else []), *(["--bootstrap"] if bootstrap else [])]
        command += ["--split", split] if split != "test" else []
        on = str(data) if data is not None else f"the {split} part"
        _write_report(file if report is True else Path(report), record, evaluation, folder, on, command)
    return evaluation


def measure(path: str | Path, data: str | Path) -> Outcome:
    """What the model in `path` makes of the file or folder `data`. Raises UserError if it can't read that."""
    from aibig.inference.predictor import load_predictor

    if not Path(data).exists():
        raise UserError(f"{data}: no such file or folder to measure on")
    predictor = load_predictor(path)
    if not hasattr(predictor, "outcome"):
        raise UserError(f"{data}: the model in {path} can't be measured on a file; leave DATA out to measure the run")
    outcome: Outcome = predictor.outcome(data)
    return outcome


def _measure_part(path: Path, split: str, given_again: Any = None) -> Evaluation:
    """The run's model on a part of the run's own data, by the run's own task."""
    from aibig.pretrained.model_folder import load_model
    from aibig.runs.train import build

    overrides: dict[str, Any] = {"trainer.device": "auto"}  # it may have been another machine's
    if given_again is not None:
        overrides[f"{section_of_object(path)}.name"] = given_again
    config = load_config(path / "config.yaml", overrides)
    config.weights_follow = True
    model: Any = load_model(path)
    trainer, task = build(config)
    task.model.load_state_dict(model.state_dict())
    outcome = trainer.outcome(task, split)
    metrics = trainer.evaluate(task, split) if outcome is None else outcome.metrics()
    if not metrics:
        raise UserError(f"{path}: the run has no {split} part; give data to measure on, or another --split")
    return Evaluation(metrics, outcome)


def section_of_object(path: Path) -> str:
    """The section of a run, "data" or "env", whose name was an object. Raises UserError if none was."""
    sections, _ = read_yaml(path / "config.yaml")
    for section in ("data", "env"):
        if str(sections.get(section, {}).get("name", "")).startswith("<"):
            return section
    raise UserError(f"{path}: was not given an object as data; give a file or folder to measure on")


def _write_report(
    file: Path, record: Record | None, evaluation: Evaluation, folder: Path, on: str, command: list[str]
) -> None:
    from aibig.report.run_page import Measured, write_run_page

    outcome = evaluation.outcome
    if outcome is not None:
        on += f", {len(outcome):,} {outcome.unit}"
    measured = Measured(on, shlex.join(["aibig", "evaluate", *command]), evaluation, evaluation.intervals, outcome)
    evaluation.report = write_run_page(file, folder, record, measured)
