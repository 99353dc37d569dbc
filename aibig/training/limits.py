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
        step: number of updates (optimizer steps), skipped ones included.
        epoch: number of passes over the training data; 0 for a task without epochs.
        counts: numbers of samples, tokens and env_steps, over all ranks.
        skipped: number of updates that were skipped, since their loss or gradient was not finite.
        train_seconds: time of training in seconds, without evaluation and saving.
        best_step: step of the best evaluation; None before the first.
        best_score: value of the selecting metric at that evaluation.
        lower_is_better: whether a lower value of the metric is better.
        patience_score: score at the last improvement by more than `min_delta`, which reset the patience.
        patience_used: number of evaluations since that improvement.
        evaluated_step: step of the last evaluation.
        pending_actions: actions that remain between this update and the next, in this order.
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
        """The number of steps, epochs, ... so far.

        Args:
            name: what is counted: "steps", "epochs", "samples", "tokens" or "env_steps".
        """
        return {"steps": self.step, "epochs": self.epoch}.get(name, self.counts.get(name, 0))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set all values to those of a checkpoint.

        Args:
            state: result of `dataclasses.asdict`.
        """
        vars(self).update(vars(Progress(**state)))

    def counters(self) -> dict[str, float]:
        """Step, epoch and counts, with which every log record begins."""
        return {"step": self.step, **({"epoch": self.epoch} if self.epoch else {}), **self.counts}


@dataclass
class Limits:
    """The limits of a run; the first that is reached ends it.

    Args:
        max_counts: the largest number of steps, epochs, samples, tokens or env_steps.
        max_seconds: the longest time of training in seconds; None: no limit.

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
        """The fraction of the run that is done, from 0 to 1.

        Counted limits alone decide it, so that a schedule does not depend on the machine's speed.

        Args:
            progress: of the run.
        """
        return min(1.0, max((progress.count_of(name) / limit for name, limit in self.max_counts.items()), default=0.0))

    def stop_reason(self, progress: Progress, seconds: float) -> str | None:
        """The name of the limit that is reached, such as "max_epochs"; None if the run goes on.

        Args:
            progress: of the run.
            seconds: time of training so far.
        """
        for name, limit in self.max_counts.items():
            if progress.count_of(name) >= limit:
                return f"max_{name}"
        return "max_minutes" if self.max_seconds is not None and seconds >= self.max_seconds else None

    def check_schedule(self, schedule: Callable[[int, float], float]) -> None:
        """Check that a schedule that needs the length of the run gets one.

        Args:
            schedule: (step, fraction of the run done) -> factor of the learning rate.

        Raises:
            UserError: the learning rate falls, and there is no limit other than max_minutes.
        """
        late = 10**9
        if not self.max_counts and schedule(late, 0.0) != schedule(late, 1.0):
            raise UserError(
                "schedule: a learning rate that falls needs a run of known length; "
                "set trainer.max_steps or another limit other than max_minutes, or use 'constant'"
            )

    def check_counts(self, counted: set[str]) -> None:
        """Check that the task counts what is limited.

        Args:
            counted: names of what the task counts.

        Raises:
            UserError: a limit is on something that the task does not count.
        """
        for name in self.max_counts:
            if name not in counted:
                settings = ", ".join(f"max_{other}" for other in sorted(counted))
                raise UserError(f"trainer.max_{name}: this task has no {name} to count; use {settings} or max_minutes")


class Stopwatch:
    """Measures the seconds of training. It waits for the device only where a pause begins or ends.

    Args:
        device: device that the run computes on.
        seconds: initial value.
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
