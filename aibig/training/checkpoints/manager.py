"""Which checkpoints of a run are kept, and where the weights of its best evaluation are. Knows no task."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from aibig.training.checkpoints import checkpoint
from aibig.training.devices.distributed import World
from aibig.training.limits import Progress

Weights = dict[str, Tensor]


class CheckpointManager:
    """The checkpoints in `folder`, None for a run that writes nothing: the last `keep_last`, and their best ones.

    say: tells the user what went wrong. best_weights: those of the best evaluation, only while no checkpoint has them.
    """

    def __init__(self, folder: Path | None, keep_last: int, world: World, say: Callable[[str], None]) -> None:
        self.folder, self._keep_last, self._world, self._say = folder, keep_last, world, say
        self.best_weights: Weights | None = None
        self._best_of: dict[int, int] = {}  # step of a checkpoint -> step of the best model by then
        self._step, self._at = -1, time.monotonic()  # of the latest

    def seconds_since(self) -> float:
        """Since the latest checkpoint, or since the beginning."""
        return time.monotonic() - self._at

    def holds(self, progress: Progress) -> bool:
        """Whether this very moment is saved, its best evaluation too."""
        return self._step == progress.step and self._best_of.get(self._step) == progress.best_step

    def write(self, folder: Path, progress: Progress, make_state: Callable[[], dict[str, Any]]) -> bool:
        """Write a checkpoint. If that fails, a full disk say, tell the user, and keep the last one."""
        if progress.best_step is not None:
            self._best_of[progress.step] = progress.best_step
        failure = checkpoint.try_to_write(folder, progress.step, make_state(), self._world)
        kept = checkpoint.steps(folder)[-self._keep_last :]
        if failure is not None:
            last = f"the last whole one is of step {kept[-1]}" if kept else "there is none yet"
            self._say(
                f"{folder}: the checkpoint of step {progress.step} could not be written ({failure}); "
                f"free some space; {last}; training goes on"
            )
            return False
        self._step, self._at = progress.step, time.monotonic()
        if self._world.is_main:
            checkpoint.prune(folder, {*kept, *(self._best_of.get(one, one) for one in kept)})
        return True

    def newest(self, folder: Path) -> Path | None:
        """The newest whole checkpoint, the main rank's word."""
        found = checkpoint.newest_whole(folder, self._say) if self._world.is_main else None
        path: Path | None = self._world.share(found)
        return path

    def best(self, progress: Progress, which: str) -> Weights | None:
        """The weights of the best evaluation, of the module `which` of its checkpoint; None if it was the last."""
        if self.best_weights is not None:
            return self.best_weights
        if progress.best_step in (None, progress.step) or self.folder is None:
            return None
        assert progress.best_step is not None
        path = checkpoint.path_of(self.folder, progress.best_step)
        damage = checkpoint.find_damage(path)
        if damage is not None:
            self._say(f"{path}: {damage}; the best model is lost, the last one takes its place")
            return None
        weights: Weights = checkpoint.read(path, "shared")["modules"][which]
        return weights

    def state_dict(self) -> dict[str, Any]:
        """What belongs into a checkpoint."""
        return {"best_of": self._best_of, "best_weights": self.best_weights}

    def load_state_dict(self, state: dict[str, Any], folder: Path, step: int) -> None:
        """Go on from the checkpoint of `step`. Newer ones are damaged, and would be taken for the latest: they go."""
        self._best_of, self.best_weights, self._step = state["best_of"], state["best_weights"], step
        if self._world.is_main:
            checkpoint.prune(folder, {one for one in checkpoint.steps(folder) if one <= step})
