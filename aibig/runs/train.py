"""Training as `aibig.train` and the command do it: config -> task -> Trainer.fit -> a folder. Knows no command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aibig.config.registry import SECTIONS
from aibig.config.run_config import Config, load_config
from aibig.config.settings import load
from aibig.errors import UserError
from aibig.ranks import is_main_rank

if TYPE_CHECKING:
    from aibig.tasks.base import Task
    from aibig.training.callbacks import Callback
    from aibig.training.checkpoints.run_folder import Run
    from aibig.training.trainer import Result, Trainer


def train(
    config: str | Path | Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Train what `config` describes and return the run, with `path` and `result`.

    config: a file, a shipped config's name ("nets/digits") or a mapping of sections; to resume `out`, by default that
    run's own. overrides: dotted keys,
    `{"optimizer.lr": 3e-3}`. out: a new folder, by default the next number under runs/. resume: go on with the run
    in `out`, by default the newest one of this config; only limits, logging and saving may be changed. callbacks: see
    `aibig.Callback`.

    In a mapping, an object may stand in place of a name, beside the settings that it takes:
    {"data": {"name": OBJECT, ...}}: a pandas DataFrame (target="column"), a pair (X, y) of arrays, tensors or lists,
    aibig's Arrays, a text or an iterable of texts, data made by hand (a LabelledData).
    {"env": {"name": OBJECT}}: a gymnasium environment, its class, or a function that returns one.
    {"model": {"name": OBJECT}}: a model that `aibig.create_model` made.
    The run's config.yaml only describes it, so that a resume needs the object again.

    Raises UserError for whatever is wrong with what was asked. A run that fails before its first update leaves no
    folder behind.
    """
    checked = load_config(config_of_run(out, resume) if config is None else config, overrides)
    from aibig.training.checkpoints import run_folder

    folder = run_folder.find(out, checked.name) if resume else None
    if folder is not None:
        run_folder.adopt_choices(checked, folder)
        if run_folder.is_complete(folder, checked):
            if is_main_rank():
                print(f"{folder}: has ended before; raise its limit (trainer.max_...) to train on", file=sys.stderr)
            return run_folder.Run(folder, run_folder.read_result(folder))
        run_folder.refuse_without_checkpoints(folder)
        checked.weights_follow = run_folder.has_checkpoint(folder)
    elif out is not None and is_main_rank():
        run_folder.refuse_if_in_use(Path(out))
    trainer, task = build(checked, callbacks)
    announce(trainer, task)
    checked.values["trainer"].update(trainer.settle(task))
    if trainer.world.is_main:
        if folder is None:
            folder = run_folder.create(out, checked.name)
        run_folder.begin(folder, checked)
    folder = trainer.world.share(folder)
    with _no_trace_of_a_false_start(trainer, folder, resume):
        result = trainer.fit(task, folder, resume=resume)
    if result.interrupted:
        return run_folder.Run(folder)
    weights = trainer.weights(task)
    if trainer.world.is_main:
        try:
            export(task, trainer, result, weights, folder)
        except OSError as error:
            raise UserError(
                f"{folder}: the model could not be written ({error}); nothing trained is lost: free some space, then "
                f"python -m aibig.train --resume --out {folder}"
            ) from None
    trainer.world.wait()
    return run_folder.Run(folder, run_folder.read_result(folder))


def config_of_run(out: str | Path | None, resume: bool) -> Path:
    """The config of the run that is to be resumed in `out`."""
    if out is None or not resume:
        raise UserError("config is missing; to go on with a run give out=RUN and resume=True")
    path = Path(out) / "config.yaml"
    if not path.is_file():
        raise UserError(f"{out}: holds no run to resume (no config.yaml)")
    return path


def announce(trainer: Trainer, task: Task) -> None:
    """Say what data were taken for, and what of pretrained weights was taken."""
    if trainer.world.is_main:
        for note in [*(f"data: {one}" for one in task.notes), *getattr(task.model, "adapted", [])]:
            print(note, file=sys.stderr)


@contextmanager
def _no_trace_of_a_false_start(trainer: Trainer, folder: Path, resume: bool) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if not resume and not trainer.progress.step and trainer.world.is_main:
            from aibig.training.checkpoints import run_folder

            run_folder.discard(folder)
        raise


def build(config: Config, callbacks: Sequence[Callback] = ()) -> tuple[Trainer, Task]:
    """The trainer and the task that a checked config describes, before anything is trained or written."""
    from aibig.training.trainer import Trainer

    with config.blaming("trainer"):
        trainer = Trainer(
            config.create("optimizer"),
            config.create("schedule"),
            config.values["seed"],
            callbacks,
            **config.section("trainer"),
        )
    with config.blaming("task"):
        kind: Any = load(SECTIONS["task"].entry(config.named("task")).target)
        task: Task = kind.from_config(config, trainer.context)
        trainer.check(task)
    with config.blaming("optimizer"):
        try:
            trainer.make_optimizer(task.model)
        except ValueError as error:
            raise UserError(str(error)) from None
    return trainer, task


def export(task: Task, trainer: Trainer, result: Result, weights: dict[str, Any], folder: Path) -> None:
    """Write the model, alone fit for use, and then result.json, the sign that the run is complete."""
    from aibig.pretrained.model_folder import save_model
    from aibig.training.checkpoints.run_folder import write_result
    from aibig.training.devices.environment import environment
    from aibig.training.logs.logbook import plain_number

    save_model(task.model, folder / "model", task.inference_facts(), weights)
    progress = result.progress
    unit, count = next(iter(progress.counts.items()), ("steps", progress.step))
    write_result(
        folder,
        {
            "metrics": {name: plain_number(value) for name, value in result.metrics.items()},
            "steps": progress.step,
            **progress.counts,
            "skipped_steps": progress.skipped,
            "best_step": progress.best_step,
            "stopped_by": result.stopped_by,
            "train_seconds": progress.train_seconds,
            "throughput": {"value": count / max(progress.train_seconds, 1e-9), "unit": f"{unit}/s"},
            "parameters": sum(one.numel() for one in task.model.parameters()),
            "device": str(trainer.device),
            "precision": trainer.precision,
            "environment": environment(trainer.device),
        },
    )
