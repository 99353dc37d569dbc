"""How long a run goes on, and how far it has come. Knows no task."""

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
    """How far a run has come: plain values, the first thing in a checkpoint."""

    step: int = 0  # updates, skipped ones included
    epoch: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)  # samples, tokens, env_steps over all ranks
    skipped: int = 0  # updates not taken, since their loss or gradient was not finite
    train_seconds: float = 0.0  # without evaluation and saving
    best_step: int | None = None
    best_score: float | None = None  # of the metric that selects, on validation
    lower_is_better: bool = False  # of that metric
    patience_score: float | None = None  # the last score that was better by enough
    patience_used: int = 0  # evaluations since then
    evaluated_step: int | None = None  # the last one
    owed: list[str] = field(default_factory=list)  # what is still to be done between this update and the next

    def done(self, name: str) -> float:
        """How much of what a limit counts is done."""
        return {"steps": self.step, "epochs": self.epoch}.get(name, self.counts.get(name, 0))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the values that `dataclasses.asdict` gave."""
        vars(self).update(vars(Progress(**state)))

    def position(self) -> dict[str, float]:
        """Where a log line stands."""
        return {"step": self.step, **({"epoch": self.epoch} if self.epoch else {}), **self.counts}


@dataclass
class Limits:
    """The first that is reached ends the run: of things that are counted, and of seconds of training.

    Raises UserError where none is set.
    """

    counts: dict[str, float]  # steps, epochs, samples, tokens, env_steps
    seconds: float | None = None

    def __post_init__(self) -> None:
        if not self.counts and self.seconds is None:
            raise UserError(
                "no limit is set, the run would never end; set one of max_steps, max_epochs, max_samples, "
                "max_tokens, max_env_steps, max_minutes"
            )

    def fraction_done(self, progress: Progress) -> float:
        """From 0 to 1, by the counted limits alone, so that a schedule does not depend on the machine's speed."""
        return min(1.0, max((progress.done(name) / limit for name, limit in self.counts.items()), default=0.0))

    def reached(self, progress: Progress, seconds: float) -> str | None:
        """The limit that ends the run now, as its setting is called ("max_epochs"); None if none does."""
        for name, limit in self.counts.items():
            if progress.done(name) >= limit:
                return f"max_{name}"
        return "max_minutes" if self.seconds is not None and seconds >= self.seconds else None

    def check_schedule(self, factor: Callable[[int, float], float]) -> None:
        """Refuse a schedule that has to know where the run ends if only minutes are limited."""
        late = 10**9
        if not self.counts and factor(late, 0.0) != factor(late, 1.0):
            raise UserError(
                "schedule: a learning rate that falls needs a run of known length; "
                "set trainer.max_steps or another counted limit beside max_minutes, or use 'constant'"
            )

    def check_counts(self, known: set[str]) -> None:
        """Refuse a limit on what this task does not count."""
        for name in self.counts:
            if name not in known:
                can = ", ".join(f"max_{one}" for one in sorted(known))
                raise UserError(f"trainer.max_{name}: this task has no {name} to count; use {can} or max_minutes")


class Stopwatch:
    """Seconds of training: runs, except while paused. Waits for the device at a pause's ends alone."""

    def __init__(self, device: torch.device, seconds: float = 0.0) -> None:
        self._device = device
        self._before = seconds
        self._since: float | None = time.perf_counter()

    def seconds(self) -> float:
        """Seconds so far, by the host's clock."""
        return self._before + (time.perf_counter() - self._since if self._since is not None else 0.0)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time in here does not count."""
        self._wait_for_device()
        self._before, self._since = self.seconds(), None
        try:
            yield
        finally:
            self._wait_for_device()
            self._since = time.perf_counter()

    def _wait_for_device(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif self._device.type == "mps":
            torch.mps.synchronize()
