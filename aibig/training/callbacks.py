"""What others may do while a run runs: look on, at a few moments. Knows no task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aibig.training.trainer import Result, Trainer


class Callback:
    """Something told what happens: override what you want to hear of. On the main rank only.

    A callback looks on and changes nothing: the run with it is the run without it, bit for bit. An exception in one
    ends the run, after a checkpoint has been saved from which `--resume` goes on exactly; so may one that ends it on
    purpose. Any other logger is five lines:

        class WandB(aibig.Callback):
            def on_begin(self, trainer):
                self.run = wandb.init(dir=trainer.run_folder)
            def on_log(self, line):
                self.run.log({f"{line['kind']}/{name}": value for name, value in line.items()}, line["step"])
            on_evaluation = on_log

        aibig.train(config, callbacks=[WandB()])
    """

    def on_begin(self, trainer: Trainer) -> None:
        """Before the first update: `trainer.run_folder`, `.task`, and after a resume `.progress.step`, are there."""

    def on_log(self, line: Mapping[str, Any]) -> None:
        """Every `log_every` updates, with a line of metrics.jsonl: kind "train", step, loss, lr, gradient_norm, ..."""

    def on_evaluation(self, line: Mapping[str, Any]) -> None:
        """After an evaluation, with its line: kind "validation", or "test" at the end, step and the metrics."""

    def on_save(self, path: Path) -> None:
        """After a checkpoint has been written to the folder `path`, whole."""

    def on_end(self, result: Result) -> None:
        """After the last evaluation, also of a run that was interrupted; the model has its best weights.

        `aibig.train` writes the folder model/ and result.json after this.
        """
