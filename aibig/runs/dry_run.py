"""Estimates time, memory and disk space of a run from its first updates. Writes nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aibig.config.run_config import load_config
from aibig.runs.few_steps import StopTraining, run_few_steps

if TYPE_CHECKING:
    from aibig.tasks.base import Task
    from aibig.training.limits import Limits, Progress
    from aibig.training.trainer import Trainer

WARM_UP_STEPS, WARM_UP_SECONDS = 5, 2.0  # whichever is reached first; at least one update
STEPS, SECONDS = 300, 5.0  # that are measured then
EVALUATION_SECONDS = 20.0  # a longer evaluation is stopped


def check(config: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Estimate time, memory and disk space of a run: build it, run a few updates, evaluate once. Writes nothing.

    Args:
        config: as for `aibig.train`.
        overrides: as for `aibig.train`.

    Returns:
        The estimate:
        - steps, and stopped_by, the limit that is reached first (patience may end the run earlier)
        - seconds, the sum of train_seconds (extrapolated from at most 305 updates or 7 seconds), evaluation_seconds
          (from one evaluation of the untrained model; None if that needs more than 20 s) and save_seconds
        - evaluations on the validation split
        - peak_memory_gb, so far, and peak_cuda_memory_gb
        - checkpoint_bytes, of the last checkpoint, and disk_bytes, an upper bound
        - parameters, device, precision, threads

    Raises:
        UserError: the config, the data or the environment has a mistake that `aibig.train` would refuse.
    """
    checked = load_config(config, overrides)
    from aibig.runs.train import build, print_notes
    from aibig.training.devices.device import peak_memory

    trainer, task = build(checked)
    print_notes(trainer, task)
    resolved = trainer.resolve_auto(task)
    limits, selection, eval_every = trainer.limits, trainer.selection, trainer.eval_every
    timing = TimingSchedule(trainer)
    run_few_steps(trainer, task, timing, max_steps=WARM_UP_STEPS + STEPS + 1, log_every=trainer.log_every)
    steps, stopped_by = timing.last_step(limits)
    validations = count_validations(steps, eval_every, limits)  # also the number of checkpoints
    metrics, seconds = evaluate_within(EVALUATION_SECONDS, trainer, task)
    evaluations = 0 if metrics == {} else validations
    if metrics is not None:
        selection.check(metrics, task.primary_metric)
    parts = {
        "train_seconds": timing.extrapolate("seconds", steps),
        "evaluation_seconds": None if metrics is None else seconds * (evaluations + 1),  # with the test
        "save_seconds": timing.last.save_seconds * validations,
    }
    size = round(timing.extrapolate("checkpoint_bytes", steps))
    model_bytes = sum(tensor.nbytes for tensor in task.model.state_dict().values())
    return {
        "steps": steps,
        "stopped_by": stopped_by,
        "evaluations": evaluations,
        "seconds": sum(part or 0.0 for part in parts.values()),
        **parts,
        **peak_memory(trainer.device),
        "checkpoint_bytes": size,
        "disk_bytes": size * (trainer.keep_last + 2) + model_bytes,  # the best, and one being written
        "parameters": sum(parameter.numel() for parameter in task.model.parameters()),
        **resolved,
    }


@dataclass
class Measurement:
    """The state of a run at one update.

    Args:
        progress: copy of the progress.
        seconds: time of training so far.
        checkpoint_bytes: size of a checkpoint.
        save_seconds: time to serialize it.
    """

    progress: Progress
    seconds: float
    checkpoint_bytes: int
    save_seconds: float


class TimingSchedule:
    """The run's schedule, which also measures: once after the warm-up, and once at the end.

    Args:
        trainer: trainer of the run.
    """

    first: Measurement
    last: Measurement

    def __init__(self, trainer: Trainer) -> None:
        self._trainer, self._schedule = trainer, trainer.schedule
        self._is_warm = False

    def __call__(self, step: int, fraction: float) -> float:
        """The factor of the learning rate.

        Args:
            step: number of updates so far.
            fraction: fraction of the run that is done.

        Raises:
            StopTraining: enough updates are measured.
        """
        seconds = self._trainer.stopwatch.seconds()
        if not self._is_warm:
            if step >= WARM_UP_STEPS or (step and seconds > WARM_UP_SECONDS):
                self.first, self._is_warm = self._measure(), True
        elif step - self.first.progress.step >= STEPS or seconds - self.first.seconds > SECONDS:
            self.last = self._measure()
            raise StopTraining
        return self._schedule(step, fraction)

    def _measure(self) -> Measurement:
        with self._trainer.stopwatch.paused():
            start = time.perf_counter()
            size = self._trainer.checkpoint_bytes()
            save_seconds = time.perf_counter() - start
        return Measurement(deepcopy(self._trainer.progress), self._trainer.stopwatch.seconds(), size, save_seconds)

    def last_step(self, limits: Limits) -> tuple[int, str]:
        """The number of updates at which a limit ends the run, and the limit's name.

        Args:
            limits: limits of the run.
        """
        first, last = self.first, self.last
        ends = {
            f"max_{name}": self._step_at(first.progress.count_of(name), last.progress.count_of(name), limit)
            for name, limit in limits.max_counts.items()
        }
        if limits.max_seconds is not None:
            ends["max_minutes"] = self._step_at(first.seconds, last.seconds, limits.max_seconds)
        name = min(ends, key=lambda name: ends[name])
        return max(1, math.ceil(round(ends[name], 6))), name

    def extrapolate(self, quantity: str, steps: int) -> float:
        """A quantity after a number of updates, by linear extrapolation.

        Args:
            quantity: "seconds" or "checkpoint_bytes".
            steps: number of updates.
        """
        old, new = getattr(self.first, quantity), getattr(self.last, quantity)
        slope = (new - old) / (self.last.progress.step - self.first.progress.step)
        return max(0.0, new + slope * (steps - self.last.progress.step))

    def _step_at(self, old: float, new: float, limit: float) -> float:
        """The update at which a count reaches the limit, from its values at the first and the last measurement."""
        if new == old:
            return math.inf
        first, last = self.first.progress.step, self.last.progress.step
        return first + (limit - old) / (new - old) * (last - first)


def count_validations(steps: int, eval_every: int | None, limits: Limits) -> int:
    """The number of evaluations on the validation split.

    Args:
        steps: updates of the run.
        eval_every: updates between evaluations; None: the trainer's default.
        limits: limits of the run.
    """
    from aibig.training.trainer import DEFAULT_EVAL_EVERY, DEFAULT_EVALS_PER_RUN

    if eval_every is None and limits.max_counts:
        return min(steps, DEFAULT_EVALS_PER_RUN)
    return math.ceil(steps / (eval_every or DEFAULT_EVAL_EVERY))


def evaluate_within(limit: float, trainer: Trainer, task: Task) -> tuple[dict[str, float] | None, float]:
    """The metrics on the validation split, None if the evaluation is too long; and its time in seconds.

    Args:
        limit: longest time in seconds.
        trainer: trainer of the run.
        task: task whose model is evaluated.
    """
    start = time.perf_counter()

    def stop_when_late(*_: Any) -> None:
        if time.perf_counter() - start > limit:
            raise StopTraining

    # A compiled model would be compiled again for the hook.
    hook = None if trainer.compile else task.model.register_forward_pre_hook(stop_when_late)
    try:
        metrics = trainer.evaluate(task, "validation")
        if (seconds := time.perf_counter() - start) < limit / 4:  # without the imports of the first one
            start = time.perf_counter()
            metrics = trainer.evaluate(task, "validation")
            seconds = time.perf_counter() - start
        return metrics, seconds
    except StopTraining:
        return None, limit
    finally:
        if hook is not None:
            hook.remove()


def format_estimate(estimate: Mapping[str, Any]) -> str:
    """An estimate as text.

    Args:
        estimate: result of `check`.
    """
    seconds = estimate["evaluation_seconds"]
    evaluation = "evaluations not counted, each is long" if seconds is None else f"{seconds:.1f} s of evaluation"
    cuda = f", {estimate['peak_cuda_memory_gb']:.2f} GB on CUDA" if "peak_cuda_memory_gb" in estimate else ""
    disk, size = estimate["disk_bytes"] / 1e6, estimate["checkpoint_bytes"] / 1e6
    device = f"{estimate['device']} in {estimate['precision']}, {estimate['threads']} threads"
    lines = [
        f"parameters  {estimate['parameters']:,} on {device}",
        f"time        about {estimate['seconds']:.1f} s: {estimate['train_seconds']:.1f} s of training, {evaluation}",
        f"length      {estimate['steps']:,} steps, ended by {estimate['stopped_by']}; "
        f"{estimate['evaluations']} evaluations",
        f"memory      {estimate.get('peak_memory_gb', math.nan):.2f} GB so far{cuda}",
        f"disk        at most {disk:,.1f} MB; a checkpoint is {size:,.1f} MB",
    ]
    return "\n".join(lines)
