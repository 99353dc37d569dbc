"""Runs a few updates with a run's own trainer, to measure something. Writes nothing."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from aibig.errors import UserError

if TYPE_CHECKING:
    from aibig.tasks.base import Task
    from aibig.training.optimizers.schedules import Schedule
    from aibig.training.trainer import Trainer


class StopTraining(Exception):
    """Raised by a schedule or a callback to end `run_few_steps` early."""


def run_few_steps(trainer: Trainer, task: Task, schedule: Schedule, *, max_steps: int, log_every: int) -> None:
    """Run updates until the schedule or a callback raises StopTraining.

    Args:
        trainer: trainer whose limits, intervals and schedule are replaced; it can't be used afterwards.
        task: task to train.
        schedule: function (step, fraction of the run done) -> factor of the learning rate.
        max_steps: largest number of updates.
        log_every: updates between log records.

    Raises:
        UserError: there are several ranks, which could not stop together.
        KeyboardInterrupt: the user pressed Ctrl-C.
    """
    if trainer.world.size > 1:
        raise UserError("a few updates on one rank are enough; start this without torchrun")
    from aibig.training.limits import Limits
    from aibig.training.selection import Selection

    def schedule_until_stop(step: int, fraction: float) -> float:
        if step >= max_steps:
            raise StopTraining
        return schedule(step, fraction)

    trainer.schedule = schedule_until_stop
    trainer.limits = Limits({"steps": max_steps + 1})  # so that the run has no final evaluations
    trainer.eval_every = trainer.save_every = max_steps + 1
    trainer.log_every, trainer.selection = log_every, Selection()
    with suppress(StopTraining):
        trainer.fit(task)
        raise KeyboardInterrupt
