"""One loop for every task. Knows the Task contract, never which task it trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from aibig.config.settings import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, checked
from aibig.errors import Diverged, UserError
from aibig.metrics.outcomes import Outcome
from aibig.seeds import derive_seed
from aibig.tasks.base import Batch, Context, Task
from aibig.training.callbacks import Callback
from aibig.training.checkpoints import checkpoint
from aibig.training.devices.cpu import prepare_cpu
from aibig.training.devices.device import choose_device, move, peak_memory
from aibig.training.devices.distributed import World, full_state_dict, set_gradient_sync
from aibig.training.devices.generators import seed_generators
from aibig.training.devices.precision import autocast, choose_precision, choose_threads
from aibig.training.limits import Limits, Progress, Stopwatch
from aibig.training.optimizers import builders as optimizers
from aibig.training.optimizers import schedules
from aibig.training.optimizers.gradient_step import GradientStep, total_norm
from aibig.training.result import INTERRUPTED, Result
from aibig.training.run_state import RunState
from aibig.training.selection import Selection
from aibig.training.signals import StopSignal

DEFAULT_EVALS_PER_RUN = 20  # evaluations and checkpoints of a run by default
DEFAULT_EVAL_EVERY = 1_000  # updates between them, if max_minutes is the only limit
MAX_CONSECUTIVE_SKIPS = 100  # GradScaler needs about 16 to find its scale; a run that skips more is lost


class Trainer:
    """Trains any Task: forward, backward, update; every so often log, evaluate, save.

    Args:
        make_optimizer: function model -> optimizer, as `aibig.training.optimizers.builders` makes; None for AdamW.
        schedule: function (step, fraction of the run done) -> factor of the learning rate; None for a constant one.
        seed: seed of initial weights, order of the data, dropout and exploration.
        callbacks: objects to call while the run runs (see `Callback`).
        max_steps: updates (optimizer steps) after which the run ends. The first of several limits ends it.
        max_epochs: passes over the training data after which the run ends.
        max_samples: samples after which the run ends, over all ranks.
        max_tokens: tokens after which the run ends, over all ranks.
        max_env_steps: steps in environments after which the run ends, over all ranks.
        max_minutes: minutes of training, without evaluation and saving, after which the run ends.
        best_metric: metric of the evaluations that selects the best model; None: the task's primary metric.
        patience: evaluations in a row without improvement after which the run ends (early stopping); None: never.
        min_delta: an improvement of the metric must be larger than this to reset the patience.
        goal: value of the metric at which the run ends; None: no goal.
        eval_every: updates between evaluations; None: 20 evaluations in a run, or one in 1,000 updates if there is no
            limit other than max_minutes.
        save_every: updates between checkpoints; None: 20 checkpoints in a run, or one in 1,000 updates if there is no
            limit other than max_minutes. One is also saved at each best evaluation, and after `save_minutes`.
        save_minutes: longest time between checkpoints in minutes.
        log_every: updates between log lines.
        keep_last: number of checkpoints to keep, beside the best.
        tensorboard: also write the log for TensorBoard, into the run's folder.
        device: "auto" (CUDA, else MPS, else the CPU), "cpu", "cuda", "cuda:1" or "mps".
        precision: number format of forward passes; "auto" is bf16 where that is faster, fp16 on a GPU without bf16,
            else fp32 (the rule is in `aibig.training.devices.precision`).
        threads: CPU threads; "auto" is 1 on a CPU for models of fewer than 100,000 parameters, else torch's own number.
        accumulate: micro-batches per update.
        clip_norm: largest norm of the gradient; a longer gradient is scaled down to it. None: no clipping.
        ema_decay: decay of a moving average of the weights, which is evaluated and exported in their place; None: no
            average.
        compile: compile the model with torch.compile.
        parallel: how several ranks share the model: "replicate", a copy each (DDP), or "fully_shard", a part of the
            parameters each (FSDP).
        deterministic: use only algorithms that repeat exactly, on CUDA too.

    Raises:
        UserError: no limit is set, or the device is not available.
    """

    task: Task  # these three are set by `fit`
    run_folder: Path | None
    stopwatch: Stopwatch

    @checked
    def __init__(
        self,
        make_optimizer: optimizers.OptimizerMaker | None = None,
        schedule: schedules.Schedule | None = None,
        seed: int = 0,
        callbacks: Sequence[Callback] = (),
        *,
        max_steps: PositiveInt | None = None,
        max_epochs: PositiveFloat | None = None,
        max_samples: PositiveInt | None = None,
        max_tokens: PositiveInt | None = None,
        max_env_steps: PositiveInt | None = None,
        max_minutes: PositiveFloat | None = None,
        best_metric: str | None = None,
        patience: PositiveInt | None = None,
        min_delta: NonNegativeFloat = 0.0,
        goal: float | None = None,
        eval_every: PositiveInt | None = None,
        save_every: PositiveInt | None = None,
        save_minutes: PositiveFloat = 5.0,
        log_every: PositiveInt = 50,
        keep_last: PositiveInt = 2,
        tensorboard: bool = False,
        device: str = "auto",
        precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
        threads: PositiveInt | Literal["auto"] = "auto",
        accumulate: PositiveInt = 1,
        clip_norm: PositiveFloat | None = None,
        ema_decay: Fraction | None = None,
        compile: bool = False,
        parallel: Literal["replicate", "fully_shard"] = "replicate",
        deterministic: bool = False,
    ) -> None:
        max_counts = {"steps": max_steps, "epochs": max_epochs, "samples": max_samples, "tokens": max_tokens}
        max_counts["env_steps"] = max_env_steps
        self.limits = Limits(
            {name: limit for name, limit in max_counts.items() if limit is not None},
            None if max_minutes is None else max_minutes * 60,
        )
        self.make_optimizer = make_optimizer or optimizers.adamw()
        self.schedule = schedule or schedules.constant()
        self.limits.check_schedule(self.schedule)
        self.selection = Selection(best_metric, patience, min_delta, goal)
        self.eval_every, self.save_every, self.log_every = eval_every, save_every, log_every
        self.save_seconds, self.keep_last = save_minutes * 60, keep_last
        self.requested_device, self.precision, self.threads = device, str(precision), threads
        self.accumulate, self.clip_norm, self.ema_decay = accumulate, clip_norm, ema_decay
        self.compile, self.parallel, self.deterministic = compile, parallel, deterministic
        if any(isinstance(callback, type) for callback in callbacks):
            raise UserError("callbacks: give objects, not classes: callbacks=[MyLogger()]")
        self.callbacks, self.tensorboard = list(callbacks), tensorboard
        self.progress = Progress()
        self.world = World()
        self.device = choose_device(device, self.world.local_rank)
        self.world.init_process_group(self.device)
        if self.device.type == "cpu":
            prepare_cpu()
        generator = torch.Generator().manual_seed(derive_seed(seed, "task", self.world.rank))
        self.context = Context(self.device, seed, self.world.rank, self.world.size, accumulate, nullcontext, generator)
        seed_generators(derive_seed(seed, "model"))  # the same initial weights on every rank

    def fit(self, task: Task, folder: str | Path | None = None, *, resume: bool = False) -> Result:
        """Train until a limit is reached, then load the best weights into the task's model and test it once.

        Ctrl-C and SIGTERM save a checkpoint and end the run as `interrupted`. If an evaluation or a callback raises, a
        checkpoint is saved first, so that a resume continues exactly. If an update raises, a resume continues from
        the last checkpoint.

        Args:
            task: task that was made with this trainer's `context`.
            folder: folder of the run, for checkpoints/ and metrics.jsonl; None to write nothing.
            resume: continue exactly from the newest valid checkpoint in that folder.

        Raises:
            UserError: the task has no count for a limit, or lacks the metric that selects the best model.
            Diverged: 100 updates in a row had a loss or gradient that is not finite.
        """
        with self._process_settings(task):
            self._set_up(task, folder, resume)
            steps = self.limits.max_counts.get("steps")
            progress_bar = self._run_log.progress_bar(self.progress.step, None if steps is None else int(steps))
            with progress_bar, self._stop_signal.handled(), self._save_on_error():
                self._run_pending_actions()  # those left over by the run that is resumed
                while not self._should_stop():
                    self._in_update = True
                    self._train_step()
                    self.progress.pending_actions = self._due_actions()
                    self._in_update = False
                    self._run_pending_actions()
            result = self._finish()
            self._call_callbacks("on_end", result)
            return result

    def evaluate(self, task: Task, split: str) -> dict[str, float]:
        """The metrics of a task's model, with this trainer's device, precision and threads.

        Args:
            task: made with this trainer's `context`.
            split: "validation" or "test".
        """
        with self._process_settings(task):
            task.model.to(self.device)
            return task.evaluate(split)

    def outcome(self, task: Task, split: str) -> Outcome | None:
        """The predictions and targets from which `evaluate` computes its metrics; None if the task returns none.

        Args:
            task: made with this trainer's `context`.
            split: "validation" or "test".
        """
        with self._process_settings(task):
            task.model.to(self.device)
            return task.outcome(split)

    def model_state_dict(self, task: Task) -> dict[str, Tensor]:
        """The state dict of a task's model, unsharded on the main rank. Every rank must call it.

        Args:
            task: after `fit`.
        """
        return full_state_dict(task.model)

    def checkpoint_bytes(self) -> int:
        """Size of this rank's files of a checkpoint in bytes. Every rank must call it."""
        return sum(checkpoint.size(content) for content in self._state.files().values())

    def check_limits(self, task: Task) -> None:
        """Check that a task has a count for each limit.

        Args:
            task: task to train.

        Raises:
            UserError: it has none.
        """
        self.limits.check_counts({"steps", *task.counts, *(["epochs"] if task.updates_per_epoch else [])})

    def resolve_auto(self, task: Task) -> dict[str, Any]:
        """Choose device, precision and threads where they are "auto". Returns their values, to be saved with the run.

        Args:
            task: task to train.
        """
        self.precision = choose_precision(self.precision, self.device, task.model)
        self.threads = choose_threads(self.threads, self.device, task.model)
        device = self.device.type if self.requested_device == "auto" else self.requested_device
        return {"device": device, "precision": self.precision, "threads": self.threads}

    # ---------------------------------------------------------------- before the first update

    @contextmanager
    def _process_settings(self, task: Task) -> Iterator[None]:
        """Apply threads, precision and determinism of this run, and restore those of the process at the end."""
        self.resolve_auto(task)
        assert isinstance(self.threads, int)
        threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
        torch.set_num_threads(self.threads)
        torch.use_deterministic_algorithms(self.deterministic or deterministic)
        self.context.autocast = autocast(self.precision, self.device)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic)

    def _set_up(self, task: Task, folder: str | Path | None, resume: bool) -> None:
        self.task, self.run_folder = task, None if folder is None else Path(folder)
        self.check_limits(task)
        if self.tensorboard and self.run_folder is not None and self.world.is_main:
            from aibig.training.logs.tensorboard import TensorBoard

            others = [callback for callback in self.callbacks if not isinstance(callback, TensorBoard)]
            self.callbacks = [*others, TensorBoard()]
        self.progress = Progress()
        self._state = RunState(
            task,
            self.context,
            self.world,
            self.run_folder,
            self.progress,
            make_optimizer=self.make_optimizer,
            ema_decay=self.ema_decay,
            scale_loss=self.precision == "fp16",
            keep_last=self.keep_last,
            parallel=self.parallel,
            compile=self.compile,
        )
        self._run_log, self._checkpoints = self._state.run_log, self._state.checkpoints
        optimizer, scaler, parameters = self._state.optimizer, self._state.scaler, self._state.parameters()
        self._gradient_step = GradientStep(optimizer, parameters, self.world, self.device, scaler, self.clip_norm)
        self._scale_by_weight = self.accumulate > 1 or self.world.size > 1  # so that they can be summed
        self._consecutive_skips, self._fraction_before = 0, 0.0
        self._stop_signal, self._in_update = StopSignal(), False
        seed_generators(derive_seed(self.context.seed, "training", self.world.rank))
        if resume:
            self._state.resume()
        self._at_last_log = dict(self.progress.counts), self.progress.train_seconds
        self.stopwatch = Stopwatch(self.device, self.progress.train_seconds)
        if self.selection.needs_evaluation and not self.progress.step:  # so that errors come early
            self.selection.check(self._validation_metrics(), task.primary_metric)
        self._call_callbacks("on_begin", self)

    # ---------------------------------------------------------------- an update

    def _train_step(self) -> None:
        """One update. The host does not wait for the device here, unless the task does."""
        self._set_learning_rate()
        loss, weight = self._accumulate_gradients()
        taken, metrics = self._gradient_step.step(loss, weight if self._scale_by_weight else None)
        self._run_log.add(metrics, 1.0)
        self.progress.step += 1
        if self.task.updates_per_epoch is not None:
            self.progress.epoch = self.progress.step * self.accumulate / self.task.updates_per_epoch
        if taken:
            self._state.after_update()
        if self._gradient_step.host_checks:
            self._check_divergence(1, 0 if taken else 1)
        self._run_log.advance()

    def _set_learning_rate(self) -> None:
        self._fraction_before = self.limits.fraction_done(self.progress)
        factor = self.schedule(self.progress.step, self._fraction_before)
        for group in self._state.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def _accumulate_gradients(self) -> tuple[Tensor, float]:
        """Forward and backward pass of each micro-batch. Returns the sums of losses and of weights."""
        task, scaler, counts = self.task, self._state.scaler, self.progress.counts
        total_loss, total_weight = None, 0.0
        for micro_batch in range(self.accumulate):
            batch = self._to_device(task.next_batch())
            if self.world.size > 1:
                set_gradient_sync(task.model, micro_batch == self.accumulate - 1)
            with self.context.autocast():
                loss = task.loss(batch)
            value = loss.value * batch.weight if self._scale_by_weight else loss.value
            (value if scaler is None else scaler.scale(value)).backward()
            task.after_loss(loss.carry)
            detached = loss.value.detach()
            self._run_log.add({"loss": detached, **loss.metrics}, batch.weight)
            total_loss = detached if total_loss is None else total_loss + detached
            total_weight += batch.weight
            for name, count in batch.counts.items():
                counts[name] = counts.get(name, 0) + count
        assert total_loss is not None
        return total_loss, total_weight

    def _to_device(self, batch: Batch) -> Batch:
        if self.device.type != "cpu":
            batch.data = move(batch.data, self.device)
        return batch

    def _check_divergence(self, updates: int, skipped: int) -> None:
        """Raise Diverged after 100 skipped updates in a row. `skipped` of the latest `updates` were skipped."""
        self._consecutive_skips = self._consecutive_skips + skipped if skipped == updates else 0
        if self._consecutive_skips >= MAX_CONSECUTIVE_SKIPS:
            folder = self._checkpoints.folder
            kept = "" if folder is None else f"; the checkpoints in {folder} are kept"
            raise Diverged(
                f"step {self.progress.step}: {self._consecutive_skips} updates in a row had a loss or gradient that "
                f"is not finite; lower optimizer.lr, set trainer.clip_norm or look at the data{kept}"
            )

    # ---------------------------------------------------------------- between two updates

    def _due_actions(self) -> list[str]:
        """The actions between this update and the next, in this order."""
        due = {
            "log": self.progress.step % self.log_every == 0,
            "evaluate": self._is_due(self.eval_every),
            "save": self._is_due(self.save_every) or self._is_save_overdue(),
        }
        return [action for action, is_due in due.items() if is_due]

    def _is_due(self, every: int | None) -> bool:
        """Whether an action is due at this step: by default one is due twenty times in a run."""
        if every is not None:
            return self.progress.step % every == 0
        if not self.limits.max_counts:
            return self.progress.step % DEFAULT_EVAL_EVERY == 0
        before, now = self._fraction_before, self.limits.fraction_done(self.progress)
        return int(before * DEFAULT_EVALS_PER_RUN) < int(now * DEFAULT_EVALS_PER_RUN)

    def _is_save_overdue(self) -> bool:
        overdue = self._checkpoints.seconds_since_last() > self.save_seconds
        if self.world.size > 1:
            return self.progress.step % self.log_every == 0 and self.world.any(overdue)
        return overdue

    def _run_pending_actions(self) -> None:
        """Run the actions. Each is removed from the list when it is done, before callbacks are called."""
        for action in list(self.progress.pending_actions):
            {"log": self._log, "evaluate": self._evaluate, "save": self._save}[action]()

    def _complete(self, action: str) -> None:
        self.progress.pending_actions = [other for other in self.progress.pending_actions if other != action]

    def _log(self) -> None:
        skips = self._run_log.values("skipped")
        skipped = round(sum(skips))
        means, seconds = self._run_log.pop_means(), self.stopwatch.seconds()
        self.progress.skipped += skipped
        if skipped:
            self._run_log.warn(
                f"step {self.progress.step}: {skipped} of the last {len(skips)} updates were skipped, "
                "since their loss or gradient was not finite"
            )
        if not self._gradient_step.host_checks:  # the host learns of skipped updates only here
            self._check_divergence(len(skips), skipped)
        counts_before, seconds_before = self._at_last_log
        self._at_last_log = dict(self.progress.counts), seconds
        rates = {
            f"{name}_per_second": (count - counts_before.get(name, 0)) / max(seconds - seconds_before, 1e-9)
            for name, count in self.progress.counts.items()
        }
        norm = total_norm([parameter.detach() for parameter in self._gradient_step.parameters]).item()
        state = {"skipped": skipped, "parameter_norm": norm, "lr": self._state.optimizer.param_groups[0]["lr"]}
        cost = {"seconds": seconds, **rates, **peak_memory(self.device)}
        record = {"kind": "train", **self.progress.counters(), **means, **state, **cost}
        self._run_log.write(record)
        shown = {name: means[name] for name in ("loss", self.task.primary_metric) if name in means}
        self._run_log.set_postfix(shown | rates)
        self._complete("log")
        self._call_callbacks("on_log", record)

    def _evaluate(self, saving: bool = True) -> None:
        metrics = self._validation_metrics()
        self.progress.evaluated_step = self.progress.step
        if not metrics:
            self._complete("evaluate")
            return
        record = {"kind": "validation", **self.progress.counters(), **metrics}
        is_best = self.selection.update(metrics, self.task.primary_metric, self.task.lower_is_better, self.progress)
        self._run_log.write(record)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        self._run_log.info(f"step {self.progress.step}: validation {shown}{' (best)' if is_best else ''}")
        self._log_sample()
        self._complete("evaluate")
        if is_best:
            self._checkpoints.best_weights = None  # of an earlier evaluation, which this one replaces
            if not (saving and self._save()):
                self._checkpoints.best_weights = self._state.evaluated_weights()
        self._call_callbacks("on_evaluation", record)

    def _validation_metrics(self) -> dict[str, float]:
        with self.stopwatch.paused(), self._state.average_parameters():
            metrics: dict[str, float] = self.world.broadcast(self.task.evaluate("validation"))
        return metrics  # the main rank's, so that all ranks select the same model

    def _log_sample(self) -> None:
        with self.stopwatch.paused(), self._state.average_parameters():
            sample = self.task.sample()
        if sample:
            self._run_log.write({"kind": "sample", **self.progress.counters(), "text": sample})
            self._run_log.info(sample)

    def _save(self) -> bool:
        """Save a checkpoint, if the run has a folder. Returns whether this step has a checkpoint."""
        self._complete("save")
        folder = self._checkpoints.folder
        if folder is None:
            return False
        if self._checkpoints.is_saved(self.progress):
            return True
        with self.stopwatch.paused():
            self.progress.train_seconds = self.stopwatch.seconds()
            self._run_log.flush()
            if not self._checkpoints.save(folder, self.progress, self._state.files):
                return False
        self._call_callbacks("on_save", checkpoint.path_of(folder, self.progress.step))
        return True

    def _call_callbacks(self, method: str, *arguments: Any) -> None:
        """Call a method of each callback, on the main rank. Callbacks get copies of mappings."""
        if self.world.is_main:
            for callback in self.callbacks:
                copies = (dict(argument) if isinstance(argument, Mapping) else argument for argument in arguments)
                getattr(callback, method)(*copies)

    # ---------------------------------------------------------------- the end

    def _should_stop(self) -> bool:
        known = self.limits.fraction_done(self.progress) >= 1.0 or bool(self.selection.stop_reason(self.progress))
        if self.world.size > 1 and self.progress.step % self.log_every:
            return known  # time and signals need communication between ranks
        return known or self.world.any(self._stop_reason() is not None or self._stop_signal.received)

    def _stop_reason(self) -> str | None:
        seconds = self.stopwatch.seconds()
        return self.selection.stop_reason(self.progress) or self.limits.stop_reason(self.progress, seconds)

    def _finish(self) -> Result:
        """Save a checkpoint; then, unless the user stopped the run, load the best weights and test them.

        The checkpoint is saved before the final log record and evaluation, so that a run that is resumed with a higher
        limit has never had them.
        """
        stop_requested = self.world.any(self._stop_signal.received)
        stopped_by = self.world.broadcast(self._stop_reason())
        if stopped_by is None:  # another rank's clock may be ahead of the main one's
            stopped_by = INTERRUPTED if stop_requested else "max_minutes"
        self._save()
        if self._run_log.values("skipped"):
            self._log()
        if stopped_by != INTERRUPTED and self.progress.evaluated_step != self.progress.step:
            self._evaluate(saving=False)
        self.progress.train_seconds = self.stopwatch.seconds()
        metrics: dict[str, float] = {}
        if stopped_by != INTERRUPTED:
            self._state.load_best_weights()
            metrics = self.world.broadcast(self.task.evaluate("test"))
            record = {"kind": "test", **self.progress.counters(), **metrics}
            self._run_log.write(record)
            self._call_callbacks("on_evaluation", record)
        self._run_log.flush()
        return Result(metrics, self.progress, stopped_by)

    @contextmanager
    def _save_on_error(self) -> Iterator[None]:
        """If an error ends the run between two updates, save a checkpoint.

        Warns which checkpoint is the last, unless the error is a UserError, which is printed elsewhere.
        """
        try:
            yield
        except Diverged:
            raise
        except Exception as error:
            if self._checkpoints.folder is not None and self.progress.step:
                with suppress(Exception):  # the original error is raised below
                    if not self._in_update and self.world.size == 1:  # saving needs all ranks
                        self._save()
                if isinstance(error, UserError):
                    raise
                saved = checkpoint.steps(self._checkpoints.folder)
                last = f"the last checkpoint is of step {saved[-1]}; " if saved else "there is no checkpoint yet; "
                if saved[-1:] == [self.progress.step]:
                    last = "everything so far is saved; "
                self._run_log.warn(
                    f"step {self.progress.step}: an error in the task or in a callback ends the run; {last}"
                    "fix it and go on with --resume"
                )
            raise
