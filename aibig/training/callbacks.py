"""What user code is called with while a run runs. Knows no task, and of the trainer what `TrainerView` lists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # the command line imports this before torch
    from aibig.tasks.base import Task
    from aibig.training.limits import Progress
    from aibig.training.result import Result


class TrainerView(Protocol):
    """What a callback may rely on: the trainer's task, progress, and the run's folder (None: nothing is written)."""

    task: Task
    progress: Progress
    run_folder: Path | None


class Callback:
    """Called while a run runs: override the methods that you need. On the main rank only.

    A callback must not change training. If one raises, a checkpoint is saved first, so that a resume continues
    exactly; raising is also the way to stop a run.

    Any other logger is five lines:

        class WandB(aibig.Callback):
            def on_begin(self, trainer):
                self.run = wandb.init(dir=trainer.run_folder)
            def on_log(self, record):
                self.run.log({f"{record['kind']}/{name}": value for name, value in record.items()}, record["step"])
            on_evaluation = on_log

        aibig.train(config, callbacks=[WandB()])
    """

    def on_begin(self, trainer: TrainerView) -> None:
        """Called before the first update (an update is an optimizer step).

        Args:
            trainer: with `task`, `progress` (after a resume that of the checkpoint) and `run_folder`.
        """

    def on_log(self, record: Mapping[str, Any]) -> None:
        """Called every `log_every` updates.

        Args:
            record: line of metrics.jsonl: kind "train", step, loss, lr, gradient_norm, ...
        """

    def on_evaluation(self, record: Mapping[str, Any]) -> None:
        """Called after an evaluation.

        Args:
            record: line of metrics.jsonl: kind "validation", or "test" at the end, step and the metrics.
        """

    def on_save(self, path: Path) -> None:
        """Called after a checkpoint has been written.

        Args:
            path: the checkpoint's folder.
        """

    def on_end(self, result: Result) -> None:
        """Called once at the end of `fit`: with the best weights, or those of the last update if it was interrupted.

        `aibig.train` writes the folder model/ and result.json after this.

        Args:
            result: of the run.
        """
