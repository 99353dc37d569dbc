"""The run's numbers for TensorBoard, in the folder `tensorboard` of the run. Knows no task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aibig.errors import UserError
from aibig.training.callbacks import Callback

if TYPE_CHECKING:
    from aibig.training.trainer import Result, Trainer


class TensorBoard(Callback):
    """Writes every number of every line, as kind/name. A resume hides what an earlier attempt wrote later.

    Raises UserError if TensorBoard is not installed.
    """

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError(
                f"trainer.tensorboard: TensorBoard can't be imported ({error}); pip install 'aibig[tensorboard]', "
                "or set it to false"
            ) from None
        self._make_writer = SummaryWriter

    def on_begin(self, trainer: Trainer) -> None:
        """Open the folder; without one there is nowhere to write."""
        assert trainer.run_folder is not None
        folder = trainer.run_folder / "tensorboard"
        self._writer = self._make_writer(str(folder), purge_step=trainer.progress.step + 1)

    def on_log(self, line: Mapping[str, Any]) -> None:
        """A point in each curve."""
        for name, value in line.items():
            if isinstance(value, int | float) and name != "step":
                self._writer.add_scalar(f"{line['kind']}/{name}", value, line["step"])

    def on_evaluation(self, line: Mapping[str, Any]) -> None:
        """A point in each curve, to be seen at once."""
        self.on_log(line)
        self._writer.flush()

    def on_save(self, path: Path) -> None:
        """What a resume takes as written is written."""
        self._writer.flush()

    def on_end(self, result: Result) -> None:
        """Close the file."""
        self._writer.close()
