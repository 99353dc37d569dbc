"""The run's numbers for TensorBoard, in the folder `tensorboard` of the run. Knows no task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aibig.errors import UserError
from aibig.training.callbacks import Callback, TrainerView
from aibig.training.result import Result


class TensorBoard(Callback):
    """Writes each number of a log record as the curve kind/name. After a resume, points of later steps are purged.

    Raises:
        UserError: TensorBoard is not installed.
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

    def on_begin(self, trainer: TrainerView) -> None:
        """Open the folder."""
        assert trainer.run_folder is not None, "without a folder there is no TensorBoard"
        folder = trainer.run_folder / "tensorboard"
        self._writer = self._make_writer(str(folder), purge_step=trainer.progress.step + 1)

    def on_log(self, record: Mapping[str, Any]) -> None:
        """Add a point to each curve."""
        for name, value in record.items():
            if isinstance(value, int | float) and name != "step":
                self._writer.add_scalar(f"{record['kind']}/{name}", value, record["step"])

    def on_evaluation(self, record: Mapping[str, Any]) -> None:
        """Add a point to each curve, and show it at once."""
        self.on_log(record)
        self._writer.flush()

    def on_save(self, path: Path) -> None:
        """Flush, so that the file matches the checkpoint."""
        self._writer.flush()

    def on_end(self, result: Result) -> None:
        """Close the file."""
        self._writer.close()
