"""How far a run has come, and where it ends. Knows no task."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from aibig.errors import UserError


@dataclass
class Progress:
    """How far a run has come: plain values, saved in every checkpoint.

    Args:
        step: updates so far, skipped ones included.
        epoch: passes over the training data so far; 0 for a task without epochs.
        counts: samples, tokens and env_steps so far, over all ranks.
        skipped: updates not taken, since their loss or gradient was not finite.
        train_seconds: seconds of training, without evaluation and saving.
        best_step: step of the best evaluation; None before the first.
        best_score: its value of the metric that selects the best model.
        lower_is_better: whether a lower value of that metric is better.
        patience_score: the last score that was better than the one before it by more than `min_delta`.
        patience_used: evaluations since then.
        evaluated_step: step of the last evaluation.
        pending_actions: what is still to be done between this update and the next, in this order.
    """

    step: int = 0
    epoch: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    skipped: int = 0
    train_seconds: float = 0.0
    best_step: int | None = None
    best_score: float | None = None
    lower_is_better: bool = False
    patience_score: float | None = None
    patience_used: int = 0
    evaluated_step: int | None = None
    pending_actions: list[str] = field(default_factory=list)

    def count_of(self, name: str) -> float:
        """How many there have been so far.

        Args:
            name: "steps", "epochs", "samples", "tokens" or "env_steps".
        """
        return {"steps": self.step, "epochs": self.epoch}.get(name, self.counts.get(name, 0))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the values of a checkpoint.

        Args:
            state: what `dataclasses.asdict` returned.
        """
        vars(self).update(vars(Progress(**state)))

    def position(self) -> dict[str, float]:
        """Step, epoch and counts, with which every log line begins."""
        return {"step": self.step, **({"epoch": self.epoch} if self.epoch else {}), **self.counts}


@dataclass
class Limits:
    """The limits of a run; the first that is reached ends it.

    Args:
        max_counts: the largest number of steps, epochs, samples, tokens or env_steps.
        max_seconds: the longest time of training in seconds; None for no limit.

    Raises:
        UserError: no limit is set.
    """

    max_counts: dict[str, float]
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        if not self.max_counts and self.max_seconds is None:
            raise UserError(
                "no limit is set, the run would never end; set one of max_steps, max_epochs, max_samples, "
                "max_tokens, max_env_steps, max_minutes"
            )

    def fraction_done(self, progress: Progress) -> float:
        """From 0 to 1, by the counted limits alone, so that a schedule does not depend on the machine's speed.

        Args:
            progress: of the run.
        """
        return min(1.0, max((progress.count_of(name) / limit for name, limit in self.max_counts.items()), default=0.0))

    def reached(self, progress: Progress, seconds: float) -> str | None:
        """The limit that ends the run now, as its setting is called ("max_epochs"); None if none does.

        Args:
            progress: of the run.
            seconds: of training so far.
        """
        for name, limit in self.max_counts.items():
            if progress.count_of(name) >= limit:
                return f"max_{name}"
        return "max_minutes" if self.max_seconds is not None and seconds >= self.max_seconds else None

    def check_schedule(self, schedule: Callable[[int, float], float]) -> None:
        """Check that the schedule can know where the run ends.

        Args:
            schedule: (step, fraction of the run done) -> factor of the learning rate.

        Raises:
            UserError: the learning rate falls and only minutes are limited.
        """
        late = 10**9
        if not self.max_counts and schedule(late, 0.0) != schedule(late, 1.0):
            raise UserError(
                "schedule: a learning rate that falls needs a run of known length; "
                "set trainer.max_steps or another counted limit beside max_minutes, or use 'constant'"
            )

    def check_counts(self, counted: set[str]) -> None:
        """Check that the task counts what is limited.

        Args:
            counted: the names of what it counts.

        Raises:
            UserError: it does not.
        """
        for name in self.max_counts:
            if name not in counted:
                settings = ", ".join(f"max_{other}" for other in sorted(counted))
                raise UserError(f"trainer.max_{name}: this task has no {name} to count; use {settings} or max_minutes")


class Stopwatch:
    """Seconds of training. Runs, except while paused; waits for the device at both ends of a pause only.

    Args:
        device: where the run computes.
        seconds: where to start from.
    """

    def __init__(self, device: torch.device, seconds: float = 0.0) -> None:
        self._device = device
        self._before = seconds
        self._since: float | None = time.perf_counter()

    def seconds(self) -> float:
        """Seconds so far, by the host's clock."""
        return self._before + (time.perf_counter() - self._since if self._since is not None else 0.0)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time within this context does not count."""
        self._synchronize()
        self._before, self._since = self.seconds(), None
        try:
            yield
        finally:
            self._synchronize()
            self._since = time.perf_counter()

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif self._device.type == "mps":
            torch.mps.synchronize()
