"""`aibig.train`: config -> task -> Trainer.fit -> run folder. Knows no command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aibig.config.registry import SECTIONS
from aibig.config.run_config import Config, load_config
from aibig.config.settings import import_object
from aibig.errors import UserError
from aibig.ranks import is_main_rank

if TYPE_CHECKING:
    from aibig.tasks.base import Task
    from aibig.training.callbacks import Callback
    from aibig.training.checkpoints.run_folder import Run
    from aibig.training.result import Result
    from aibig.training.trainer import Trainer


def train(
    config: str | Path | Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Train a model by a config.

    The folder of a run that fails before its first update is deleted.

    In a mapping, an object may stand in place of a name, with its settings beside it. The run's config.yaml has only a
    description of the object, so that a resume needs it again:
    - {"data": {"name": OBJECT, ...}}: a pandas DataFrame (with target="column"), a pair (X, y) of arrays, tensors or
      lists, a torch Dataset, aibig's Arrays or LabelledData, a text or an iterable of texts
    - {"env": {"name": OBJECT}}: a gymnasium environment, its class, or a function that returns one
    - {"model": {"name": OBJECT}}: a model that `aibig.create_model` created

    Args:
        config: a YAML file, the name of a config that comes with aibig ("nets/digits"), or a mapping of sections.
            None resumes the run in `out` with its own config.
        overrides: values by dotted key, such as {"optimizer.lr": 3e-3}.
        out: new folder of the run, by default the next number under runs/, such as runs/digits-0001.
        resume: continue the run in `out`, by default the newest run of this config. Only limits, logging and saving may
            be changed.
        callbacks: see `aibig.Callback`.

    Returns:
        The run, with its folder `path` and the `result` (metrics of the test split, steps, seconds, ...), which is None
        if the user interrupted it.

    Raises:
        UserError: the config, the data or the environment has a mistake, or the run diverges.
    """
    checked = load_config(config_of_run(out, resume) if config is None else config, overrides)
    from aibig.training.checkpoints import run_folder

    folder = run_folder.folder_to_resume(out, checked.name) if resume else None
    if folder is not None:
        run_folder.restore_auto_choices(checked, folder)
        if run_folder.is_complete(folder, checked):
            if is_main_rank():
                print(f"{folder}: has ended before; raise its limit (trainer.max_...) to train on", file=sys.stderr)
            return run_folder.Run(folder, run_folder.read_result(folder))
        run_folder.refuse_without_checkpoints(folder)
        checked.skip_initial_weights = run_folder.has_checkpoint(folder)
    elif out is not None and is_main_rank():
        run_folder.refuse_if_in_use(Path(out))
    trainer, task = build(checked, callbacks)
    print_notes(trainer, task)
    checked.values["trainer"].update(trainer.resolve_auto(task))
    if trainer.world.is_main:
        if folder is None:
            folder = run_folder.create_folder(out, checked.name)
        run_folder.write_config(folder, checked)
    folder = trainer.world.broadcast(folder)
    with _discard_run_without_updates(trainer, folder, resume):
        result = trainer.fit(task, folder, resume=resume)
    if result.interrupted:
        return run_folder.Run(folder)
    weights = trainer.model_state_dict(task)
    if trainer.world.is_main:
        try:
            export(task, trainer, result, weights, folder)
        except OSError as error:
            raise UserError(
                f"{folder}: the model could not be written ({error}); nothing trained is lost: free some space, then "
                f"python -m aibig.train --resume --out {folder}"
            ) from None
    trainer.world.barrier()
    return run_folder.Run(folder, run_folder.read_result(folder))


def config_of_run(out: str | Path | None, resume: bool) -> Path:
    """The config of a run that is resumed.

    Args:
        out: folder of the run.
        resume: whether the run is resumed.

    Raises:
        UserError: there is no folder, or no run in it.
    """
    if out is None or not resume:
        raise UserError("config is missing; to resume a run, set out=RUN and resume=True")
    path = Path(out) / "config.yaml"
    if not path.is_file():
        raise UserError(f"{out}: holds no run to resume (no config.yaml)")
    return path


def print_notes(trainer: Trainer, task: Task) -> None:
    """Print notes on the data and on pretrained weights, on standard error.

    Args:
        trainer: trainer of the run.
        task: task with data and model.
    """
    if trainer.world.is_main:
        for note in [*(f"data: {note}" for note in task.notes), *getattr(task.model, "adapted", [])]:
            print(note, file=sys.stderr)


@contextmanager
def _discard_run_without_updates(trainer: Trainer, folder: Path, resume: bool) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if not resume and not trainer.progress.step and trainer.world.is_main:
            from aibig.training.checkpoints import run_folder

            run_folder.discard(folder)
        raise


def build(config: Config, callbacks: Sequence[Callback] = ()) -> tuple[Trainer, Task]:
    """Build the trainer and the task of a config. Trains and writes nothing.

    Args:
        config: checked config.
        callbacks: see `aibig.Callback`.

    Raises:
        UserError: a section can't be built; the error has its location.
    """
    from aibig.training.trainer import Trainer

    with config.locating_errors("trainer"):
        trainer = Trainer(
            config.create("optimizer"),
            config.create("schedule"),
            config.values["seed"],
            callbacks,
            **config.section("trainer"),
        )
    with config.locating_errors("task"):
        task_class: Any = import_object(SECTIONS["task"].entry(config.name_of("task")).target)
        task: Task = task_class.from_config(config, trainer.context)
        trainer.check_limits(task)
    with config.locating_errors("optimizer"):
        try:
            trainer.make_optimizer(task.model)
        except ValueError as error:
            raise UserError(str(error)) from None
    return trainer, task


def export(task: Task, trainer: Trainer, result: Result, weights: dict[str, Any], folder: Path) -> None:
    """Write the model's folder, which needs no other files, and then result.json, which marks the run as finished.

    Args:
        task: task with the model.
        trainer: trainer of the run.
        result: result of the run.
        weights: state dict of the model, unsharded.
        folder: folder of the run.

    Raises:
        OSError: the disk is full.
    """
    from aibig.pretrained.model_folder import save_model
    from aibig.training.checkpoints.run_folder import write_result
    from aibig.training.devices.system_info import system_info
    from aibig.training.logs.run_log import plain_number

    save_model(task.model, folder / "model", task.inference_config(), weights)
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
            "parameters": sum(parameter.numel() for parameter in task.model.parameters()),
            "device": str(trainer.device),
            "precision": trainer.precision,
            "environment": system_info(trainer.device),
        },
    )
