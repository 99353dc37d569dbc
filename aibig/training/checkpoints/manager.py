"""Saves and deletes the checkpoints of a run, and finds the weights of its best evaluation. Knows no task."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from aibig.training.checkpoints import checkpoint
from aibig.training.devices.distributed import World
from aibig.training.limits import Progress

StateDict = dict[str, Tensor]


class CheckpointManager:
    """Saves the checkpoints of a run; keeps the latest, and for each the checkpoint of its best evaluation.

    `best_weights` are those of the best evaluation, if no checkpoint has them.

    Args:
        folder: folder of the checkpoints; None to write nothing.
        keep_last: number of checkpoints to keep, beside the best.
        world: ranks of the run.
        warn: called with a message if a checkpoint can't be written or is damaged.
    """

    def __init__(self, folder: Path | None, keep_last: int, world: World, warn: Callable[[str], None]) -> None:
        self.folder, self._keep_last, self._world, self._warn = folder, keep_last, world, warn
        self.best_weights: StateDict | None = None
        self._best_steps: dict[int, int] = {}  # step of a checkpoint -> step of its best evaluation
        self._last_step, self._last_time = -1, time.monotonic()

    def seconds_since_last(self) -> float:
        """Seconds since the last checkpoint, or since the beginning."""
        return time.monotonic() - self._last_time

    def is_saved(self, progress: Progress) -> bool:
        """Whether the last checkpoint is of this step, with its best evaluation.

        Args:
            progress: of the run.
        """
        return self._last_step == progress.step and self._best_steps.get(self._last_step) == progress.best_step

    def save(self, folder: Path, progress: Progress, make_state: Callable[[], dict[str, Any]]) -> bool:
        """Write a checkpoint. If that fails, as on a full disk, warn and keep the last checkpoint.

        Args:
            folder: of the checkpoints.
            progress: of the run.
            make_state: returns the content of each file, by name.

        Returns:
            Whether the checkpoint was written.
        """
        if progress.best_step is not None:
            self._best_steps[progress.step] = progress.best_step
        error = checkpoint.try_to_write(folder, progress.step, make_state(), self._world)
        last_steps = checkpoint.steps(folder)[-self._keep_last :]
        if error is not None:
            last = f"the last valid checkpoint is of step {last_steps[-1]}" if last_steps else "there is none yet"
            self._warn(
                f"{folder}: the checkpoint of step {progress.step} could not be written ({error}); "
                f"free some space; {last}; training goes on"
            )
            return False
        self._last_step, self._last_time = progress.step, time.monotonic()
        if self._world.is_main:
            checkpoint.prune(folder, {*last_steps, *(self._best_steps.get(step, step) for step in last_steps)})
        return True

    def newest(self, folder: Path) -> Path | None:
        """The newest valid checkpoint that the main rank finds; None if there is none.

        Args:
            folder: of the checkpoints.
        """
        path = checkpoint.newest_valid(folder, self._warn) if self._world.is_main else None
        newest: Path | None = self._world.broadcast(path)
        return newest

    def load_best(self, progress: Progress, module: str) -> StateDict | None:
        """The weights of the best evaluation; None if that is the last evaluation.

        Args:
            progress: of the run.
            module: name of the module in the checkpoint.
        """
        if self.best_weights is not None:
            return self.best_weights
        if progress.best_step in (None, progress.step) or self.folder is None:
            return None
        assert progress.best_step is not None
        path = checkpoint.path_of(self.folder, progress.best_step)
        damage = checkpoint.find_damage(path)
        if damage is not None:
            self._warn(f"{path}: {damage}; the best model is lost; the last weights are used instead")
            return None
        weights: StateDict = checkpoint.read(path, "shared")["modules"][module]
        return weights

    def state_dict(self) -> dict[str, Any]:
        """The part of a checkpoint that this class needs at a resume."""
        return {"best_steps": self._best_steps, "best_weights": self.best_weights}

    def load_state_dict(self, state: dict[str, Any], folder: Path, step: int) -> None:
        """Continue from a checkpoint. Newer checkpoints, which are damaged, are deleted.

        Args:
            state: what `state_dict` returned.
            folder: of the checkpoints.
            step: of the checkpoint.
        """
        self._best_steps, self.best_weights, self._last_step = state["best_steps"], state["best_weights"], step
        if self._world.is_main:
            checkpoint.prune(folder, {other for other in checkpoint.steps(folder) if other <= step})
