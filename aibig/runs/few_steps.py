"""A few updates of a run by its own trainer, for what they tell: no folder, no evaluation, no trace."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from aibig.errors import UserError

if TYPE_CHECKING:
    from aibig.tasks.base import Task
    from aibig.training.optimizers.schedules import Schedule
    from aibig.training.trainer import Trainer


class Enough(Exception):
    """Raised by a schedule or a callback to end a rehearsal."""


def rehearse(trainer: Trainer, task: Task, factor: Schedule, *, steps: int, log_every: int) -> None:
    """At most `steps` updates with the learning rate times `factor`; that, or a callback, ends them by raising Enough.

    Raises UserError on several ranks, which could not agree on when it is enough, KeyboardInterrupt at Ctrl-C.
    """
    if trainer.world.size > 1:
        raise UserError("a few updates tell as much on one rank: start this without torchrun")
    from aibig.training.limits import Limits
    from aibig.training.selection import Selection

    def until_enough(step: int, fraction: float) -> float:
        if step >= steps:
            raise Enough
        return factor(step, fraction)

    trainer.learning_rate_factor = until_enough
    trainer.limits = Limits({"steps": steps + 1})  # the end of a run, with its evaluations, never comes
    trainer.eval_every = trainer.save_every = steps + 1
    trainer.log_every, trainer.selection = log_every, Selection()
    with suppress(Enough):
        trainer.fit(task)
        raise KeyboardInterrupt
