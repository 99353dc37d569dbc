"""What the updates of a run change: modules, optimizer, counters, log. Saved and resumed as one. Knows no task."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aibig.errors import UserError
from aibig.layers.dtensor import full
from aibig.tasks.base import Context, Task
from aibig.training.checkpoints import checkpoint
from aibig.training.checkpoints.manager import CheckpointManager
from aibig.training.devices.distributed import World, distribute, load_whole_state, whole_state
from aibig.training.devices.generators import generators_state, load_generators_state
from aibig.training.limits import Progress
from aibig.training.logs.logbook import RunLog
from aibig.training.optimizers.builders import OptimizerMaker
from aibig.training.optimizers.ema import WeightAverage


class RunState:
    """A task's modules on their device, and all that changes with them, as `Trainer.fit` begins it.

    folder: of the run, None for one that writes nothing. progress: is counted in. scaled: whether losses are, for
    fp16. The other settings are the trainer's.
    """

    def __init__(
        self,
        task: Task,
        context: Context,
        world: World,
        folder: Path | None,
        progress: Progress,
        *,
        make_optimizer: OptimizerMaker,
        ema_decay: float | None,
        scaled: bool,
        keep_last: int,
        parallel: str,
        compile: bool,
    ) -> None:
        self.task, self.progress, self._context, self._world = task, progress, context, world
        self._average = None if ema_decay is None else WeightAverage(task.model, ema_decay)
        self._modules = {"model": task.model, **task.target_networks}  # what is placed, sharded, compiled and saved
        if self._average is not None:
            self._modules["average"] = self._average.module
        for module in self._modules.values():  # copies are made by now: shard them all alike
            module.to(context.device)
            if world.size > 1:
                distribute(module, parallel)
            if compile:
                module.compile()
        self.optimizer = make_optimizer(task.model)
        for group in self.optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        self.scaler = torch.amp.GradScaler(context.device.type) if scaled else None
        self.logbook = RunLog(world, folder)
        self.keeping = CheckpointManager(
            None if folder is None else folder / "checkpoints", keep_last, world, self.logbook.say
        )

    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer trains."""
        return [one for group in self.optimizer.param_groups for one in group["params"]]

    def after_update(self) -> None:
        """Let the task, and the average of weights, follow an update that was taken."""
        self.task.after_update(self.progress.step)
        if self._average is not None:
            self._average.update(self.task.model, self.progress.step)

    # ---------------------------------------------------------------- saving and resuming

    def files(self) -> dict[str, Any]:
        """The content of a checkpoint by file: what all ranks share, written by the main one, and this rank's own."""
        shared = {
            "progress": asdict(self.progress),
            **self.keeping.state_dict(),
            "modules": {name: whole_state(module) for name, module in self._modules.items()},
            "optimizer": whole_state(self.task.model, self.optimizer),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "ranks": self._world.size,
        }
        own = {
            "task": self.task.state_dict(),
            "logbook": self.logbook.state_dict(),
            "generators": generators_state(self._context.generator),
        }
        return {"shared": shared, f"rank-{self._world.rank}": own}

    def resume(self) -> None:
        """Go on from the newest whole checkpoint; from the beginning, and say so, if there is none.

        Raises UserError if other ranks wrote it, other settings or other data.
        """
        folder = self.keeping.folder
        assert folder is not None, "only a run with a folder can be resumed"
        path = self.keeping.newest(folder)
        if path is None:
            self.logbook.say(f"{folder}: no whole checkpoint yet; starting from the beginning")
            self.logbook.rewind()
            return
        shared = checkpoint.read(path, "shared")
        self._check_alike(path, shared)
        own = checkpoint.read(path, f"rank-{self._world.rank}", mapped=True)
        self.progress.load_state_dict(shared["progress"])
        self.task.load_state_dict(own["task"])  # first: it refuses data that the weights may not even fit
        for name, module in self._modules.items():
            load_whole_state(module, shared["modules"][name])
        load_whole_state(self.task.model, shared["optimizer"], self.optimizer)
        if self.scaler is not None:
            self.scaler.load_state_dict(shared["scaler"])
        self.logbook.load_state_dict(own["logbook"])
        load_generators_state(self._context.generator, own["generators"])
        self.logbook.rewind()
        self.keeping.load_state_dict(shared, folder, self.progress.step)

    def _check_alike(self, path: Path, shared: dict[str, Any]) -> None:
        ranks, modules, was_scaled = shared["ranks"], set(shared["modules"]), shared["scaler"] is not None
        if ranks != self._world.size:
            raise UserError(f"{path}: was written by {ranks} ranks, this run has {self._world.size}; start as many")
        for name in sorted(modules ^ set(self._modules)):
            has, this_has = ("has", "none") if name in modules else ("has no", "some")
            cause = "trainer.ema_decay" if name == "average" else "settings of the task"
            raise UserError(f"{path}: {has} weights of {name!r}, this run has {this_has}; go on with the same {cause}")
        if was_scaled != (self.scaler is not None):
            raise UserError(f"{path}: trainer.precision was {'' if was_scaled else 'not '}fp16; go on with the same")

    # ---------------------------------------------------------------- the weights that are evaluated and left

    def averaged(self) -> AbstractContextManager[None]:
        """In this context the model computes with the average of its weights, if there is one."""
        return nullcontext() if self._average is None else self._average.in_place_of(self.task.model)

    def evaluated_weights(self) -> dict[str, Tensor]:
        """A copy of the weights that an evaluation sees."""
        state = self._modules[self._evaluated].state_dict()
        return {name: full(value.detach()).clone() for name, value in state.items()}

    def take_best_weights(self) -> None:
        """The model gets the weights of the best evaluation; if there was none, the last ones."""
        weights = self.keeping.best(self.progress, self._evaluated)
        if weights is not None:
            load_whole_state(self.task.model, weights)
        elif self._average is not None:
            self._average.give_to(self.task.model)

    @property
    def _evaluated(self) -> str:
        return "model" if self._average is None else "average"
