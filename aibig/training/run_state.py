"""Everything that the updates of a run change, saved and resumed together. Knows no task."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aibig.errors import UserError
from aibig.layers.utils.dtensor import full_tensor
from aibig.tasks.base import Context, Task
from aibig.training.checkpoints import checkpoint
from aibig.training.checkpoints.manager import CheckpointManager
from aibig.training.devices.distributed import World, full_state_dict, load_full_state_dict, parallelize
from aibig.training.devices.generators import generators_state, load_generators_state
from aibig.training.limits import Progress
from aibig.training.logs.run_log import RunLog
from aibig.training.optimizers.builders import OptimizerMaker
from aibig.training.optimizers.ema import ModelEma


class RunState:
    """A task's modules on their device, their optimizer, and the rest of a checkpoint.

    Args:
        task: task to train.
        context: context of the task.
        world: ranks of the run.
        folder: folder of the run; None to write nothing.
        progress: progress of the run.
        make_optimizer: function model -> optimizer.
        ema_decay: decay of a moving average of the weights; None: no average.
        scale_loss: whether losses are scaled, for fp16.
        keep_last: number of checkpoints to keep, beside the best.
        parallel: how several ranks share a module: "replicate" or "fully_shard".
        compile: whether every module is compiled.
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
        scale_loss: bool,
        keep_last: int,
        parallel: str,
        compile: bool,
    ) -> None:
        self.task, self.progress, self._context, self._world = task, progress, context, world
        self._ema = None if ema_decay is None else ModelEma(task.model, ema_decay)
        self._evaluated = "model" if self._ema is None else "ema"  # name of the module
        self._modules = {"model": task.model, **task.target_networks}
        if self._ema is not None:
            self._modules["ema"] = self._ema.module
        for module in self._modules.values():  # after the copy for the average, so that all are sharded alike
            module.to(context.device)
            if world.size > 1:
                parallelize(module, parallel)
            if compile:
                module.compile()
        self.optimizer = make_optimizer(task.model)
        for group in self.optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        self.scaler = torch.amp.GradScaler(context.device.type) if scale_loss else None
        self.run_log = RunLog(world, folder)
        checkpoints = None if folder is None else folder / "checkpoints"
        self.checkpoints = CheckpointManager(checkpoints, keep_last, world, self.run_log.warn)

    def parameters(self) -> list[nn.Parameter]:
        """The parameters that the optimizer trains."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def after_update(self) -> None:
        """Call the task's `after_update`, and update the average of the weights."""
        self.task.after_update(self.progress.step)
        if self._ema is not None:
            self._ema.update(self.task.model, self.progress.step)

    # ---------------------------------------------------------------- saving and resuming

    def files(self) -> dict[str, Any]:
        """The content of a checkpoint by file: "shared", which the main rank writes, and this rank's own."""
        shared = {
            "progress": asdict(self.progress),
            **self.checkpoints.state_dict(),
            "modules": {name: full_state_dict(module) for name, module in self._modules.items()},
            "optimizer": full_state_dict(self.task.model, self.optimizer),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "ranks": self._world.size,
        }
        own = {
            "task": self.task.state_dict(),
            "run_log": self.run_log.state_dict(),
            "generators": generators_state(self._context.generator),
        }
        return {"shared": shared, f"rank-{self._world.rank}": own}

    def resume(self) -> None:
        """Continue from the newest valid checkpoint. If there is none, warn and start from the beginning.

        Raises:
            UserError: number of ranks, settings or data differ from those of the checkpoint.
        """
        folder = self.checkpoints.folder
        assert folder is not None, "only a run with a folder can be resumed"
        path = self.checkpoints.newest(folder)
        if path is None:
            self.run_log.warn(f"{folder}: no valid checkpoint yet; starting from the beginning")
            self.run_log.truncate()
            return
        shared = checkpoint.read(path, "shared")
        self._check_compatible(path, shared)
        own = checkpoint.read(path, f"rank-{self._world.rank}", mapped=True)
        self.progress.load_state_dict(shared["progress"])
        self.task.load_state_dict(own["task"])  # before the weights, which may not fit other data
        for name, module in self._modules.items():
            load_full_state_dict(module, shared["modules"][name])
        load_full_state_dict(self.task.model, shared["optimizer"], self.optimizer)
        if self.scaler is not None:
            self.scaler.load_state_dict(shared["scaler"])
        self.run_log.load_state_dict(own["run_log"])
        load_generators_state(self._context.generator, own["generators"])
        self.run_log.truncate()
        self.checkpoints.load_state_dict(shared, folder, self.progress.step)

    def _check_compatible(self, path: Path, shared: dict[str, Any]) -> None:
        ranks, modules, was_scaled = shared["ranks"], set(shared["modules"]), shared["scaler"] is not None
        if ranks != self._world.size:
            raise UserError(f"{path}: was written by {ranks} ranks, this run has {self._world.size}; start as many")
        for name in sorted(modules ^ set(self._modules)):
            there, here = ("has", "none") if name in modules else ("has no", "some")
            setting = "trainer.ema_decay" if name == "ema" else "settings of the task"
            raise UserError(f"{path}: {there} weights of {name!r}, this run has {here}; go on with the same {setting}")
        if was_scaled != (self.scaler is not None):
            raise UserError(f"{path}: trainer.precision was {'' if was_scaled else 'not '}fp16; go on with the same")

    # ---------------------------------------------------------------- the weights that are evaluated and exported

    def average_parameters(self) -> AbstractContextManager[None]:
        """Inside the `with` block the model has the average of its weights, if there is one."""
        return nullcontext() if self._ema is None else self._ema.average_parameters(self.task.model)

    def evaluated_weights(self) -> dict[str, Tensor]:
        """A copy of the weights that an evaluation uses."""
        state = self._modules[self._evaluated].state_dict()
        return {name: full_tensor(value.detach()).clone() for name, value in state.items()}

    def load_best_weights(self) -> None:
        """Load the weights of the best evaluation into the model; without one, those of the last update."""
        weights = self.checkpoints.load_best(self.progress, self._evaluated)
        if weights is not None:
            load_full_state_dict(self.task.model, weights)
        elif self._ema is not None:
            self._ema.copy_to(self.task.model)
