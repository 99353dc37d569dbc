"""What a run would take, told from its first updates: time, memory, disk. Writes nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aibig.config.run_config import load_config
from aibig.runs.few_steps import Enough, rehearse

if TYPE_CHECKING:
    from aibig.tasks.base import Task
    from aibig.training.limits import Limits, Progress
    from aibig.training.trainer import Trainer

WARM_UP_STEPS, WARM_UP_SECONDS = 5, 2.0  # whichever comes first, at least one update
STEPS, SECONDS = 300, 5.0  # that are timed then
EVALUATION_SECONDS = 20.0  # an evaluation that takes longer is broken off


def check(config: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Build all that `config` describes, take a few updates, evaluate once, and estimate the whole run.

    Returns steps and stopped_by (the limit that comes first; patience may come before); seconds, the sum of
    train_seconds, evaluation_seconds and save_seconds; evaluations; peak_memory_gb (so far); checkpoint_bytes (of
    the last one); disk_bytes (at most); parameters, device, precision, threads.

    train_seconds is extrapolated from at most 305 updates or 7 seconds. evaluation_seconds is that of the untrained
    model on the validation part, for every evaluation and the test; None if one alone takes more than 20 s.

    Raises UserError for whatever is wrong with what was asked; other errors come as they would in the run.
    """
    checked = load_config(config, overrides)
    from aibig.runs.train import announce, build
    from aibig.training.devices.device import peak_memory

    trainer, task = build(checked)
    announce(trainer, task)
    chosen = trainer.settle(task)
    limits, selection, eval_every = trainer.limits, trainer.selection, trainer.eval_every
    sample = Sample(trainer)
    rehearse(trainer, task, sample, steps=WARM_UP_STEPS + STEPS + 1, log_every=trainer.log_every)
    steps, stopped_by = sample.end_of(limits)
    moments = evaluations_in(steps, eval_every, limits)  # a run is saved as often
    metrics, seconds = evaluate_within(EVALUATION_SECONDS, trainer, task)
    evaluations = 0 if metrics == {} else moments
    if metrics is not None:
        selection.check(metrics, task.primary_metric)
    parts = {
        "train_seconds": sample.extrapolated("seconds", steps),
        "evaluation_seconds": None if metrics is None else seconds * (evaluations + 1),  # the test is one more
        "save_seconds": sample.last.save_seconds * moments,
    }
    size = round(sample.extrapolated("checkpoint_bytes", steps))
    model_bytes = sum(one.nbytes for one in task.model.state_dict().values())
    return {
        "steps": steps,
        "stopped_by": stopped_by,
        "evaluations": evaluations,
        "seconds": sum(part or 0.0 for part in parts.values()),
        **parts,
        **peak_memory(trainer.device),
        "checkpoint_bytes": size,
        "disk_bytes": size * (trainer.keep_last + 2) + model_bytes,  # with the best, and the one being written
        "parameters": sum(one.numel() for one in task.model.parameters()),
        **chosen,
    }


@dataclass
class Mark:
    """What stands at one moment of a rehearsal."""

    progress: Progress
    seconds: float
    checkpoint_bytes: int
    save_seconds: float


class Sample:
    """A schedule that looks at the clock: marks where the warm-up ends, and where enough has been seen."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer, self._factor = trainer, trainer.learning_rate_factor
        self.first: Mark | None = None

    def __call__(self, step: int, fraction: float) -> float:
        """The factor of the run's own schedule."""
        seconds = self._trainer.stopwatch.seconds()
        if self.first is None:
            if step >= WARM_UP_STEPS or (step and seconds > WARM_UP_SECONDS):
                self.first = self._mark()
        elif step - self.first.progress.step >= STEPS or seconds - self.first.seconds > SECONDS:
            self.last = self._mark()
            raise Enough
        return self._factor(step, fraction)

    def _mark(self) -> Mark:
        with self._trainer.stopwatch.paused():
            begun = time.perf_counter()
            size = self._trainer.checkpoint_bytes()
            saving = time.perf_counter() - begun
        return Mark(deepcopy(self._trainer.progress), self._trainer.stopwatch.seconds(), size, saving)

    def end_of(self, limits: Limits) -> tuple[int, str]:
        """The number of updates after which the first of `limits` ends the run, and its name."""
        first, last = self._marks()
        ends = {
            f"max_{name}": self._step_of(first.progress.done(name), last.progress.done(name), limit)
            for name, limit in limits.counts.items()
        }
        if limits.seconds is not None:
            ends["max_minutes"] = self._step_of(first.seconds, last.seconds, limits.seconds)
        name = min(ends, key=lambda one: ends[one])
        return max(1, math.ceil(round(ends[name], 6))), name

    def extrapolated(self, what: str, steps: int) -> float:
        """What "seconds" or "checkpoint_bytes" will be after so many updates, if they grow as they did."""
        first, last = self._marks()
        before, after = getattr(first, what), getattr(last, what)
        slope = (after - before) / (last.progress.step - first.progress.step)
        return max(0.0, after + slope * (steps - last.progress.step))

    def _step_of(self, before: float, after: float, wanted: float) -> float:
        """The update at which a count that stood at `before` and `after` reaches `wanted`."""
        first, last = self._marks()
        if after == before:
            return math.inf
        return first.progress.step + (wanted - before) / (after - before) * (last.progress.step - first.progress.step)

    def _marks(self) -> tuple[Mark, Mark]:
        assert self.first is not None
        return self.first, self.last


def evaluations_in(steps: int, every: int | None, limits: Limits) -> int:
    """How often a run of so many updates is evaluated on the validation part."""
    from aibig.training.trainer import PARTS_OF_A_RUN, STEPS_BETWEEN

    if every is None and limits.counts:
        return min(steps, PARTS_OF_A_RUN)
    return math.ceil(steps / (every or STEPS_BETWEEN))


def evaluate_within(limit: float, trainer: Trainer, task: Task) -> tuple[dict[str, float] | None, float]:
    """The metrics on the validation part, and the seconds it took; None if it would take longer than `limit`."""
    begun = time.perf_counter()

    def look_at_the_clock(*_: Any) -> None:
        if time.perf_counter() - begun > limit:
            raise Enough

    # A compiled model would be compiled again for the hook.
    hook = None if trainer.compile else task.model.register_forward_pre_hook(look_at_the_clock)
    try:
        metrics = trainer.evaluate(task, "validation")
        if (seconds := time.perf_counter() - begun) < limit / 4:  # the first one imports what later ones do not
            begun = time.perf_counter()
            metrics = trainer.evaluate(task, "validation")
            seconds = time.perf_counter() - begun
        return metrics, seconds
    except Enough:
        return None, limit
    finally:
        if hook is not None:
            hook.remove()


def in_lines(found: Mapping[str, Any]) -> str:
    """An estimate for people."""
    evaluation = found["evaluation_seconds"]
    more = "evaluations not counted, one takes long" if evaluation is None else f"{evaluation:.1f} s of evaluation"
    cuda = f", {found['peak_cuda_memory_gb']:.2f} GB on CUDA" if "peak_cuda_memory_gb" in found else ""
    disk, size = found["disk_bytes"] / 1e6, found["checkpoint_bytes"] / 1e6
    lines = [
        f"parameters  {found['parameters']:,} on {found['device']} in {found['precision']}, {found['threads']} threads",
        f"time        about {found['seconds']:.1f} s: {found['train_seconds']:.1f} s of training, {more}",
        f"length      {found['steps']:,} steps, ended by {found['stopped_by']}; {found['evaluations']} evaluations",
        f"memory      {found.get('peak_memory_gb', math.nan):.2f} GB so far{cuda}",
        f"disk        at most {disk:,.1f} MB; a checkpoint is {size:,.1f} MB",
    ]
    return "\n".join(lines)
