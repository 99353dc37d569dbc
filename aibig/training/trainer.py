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

DEFAULT_EVALS_PER_RUN = 20  # how often a run is evaluated and saved, where nothing else is said
DEFAULT_EVAL_EVERY = 1_000  # and the updates between, where only its minutes are limited
MAX_CONSECUTIVE_SKIPS = 100  # GradScaler needs about 16 to find its scale; a run that skips more is lost


class Trainer:
    """Trains any Task: forward, backward, update; every so often log, evaluate, save.

    Args:
        make_optimizer: function model -> optimizer, as `aibig.training.optimizers.builders` makes; None for AdamW.
        schedule: function (step, fraction of the run done) -> factor of the learning rate; None for a constant one.
        seed: of all that is random: initial weights, order of the data, dropout, exploration.
        callbacks: objects to call while the run runs (see `Callback`).
        max_steps: updates (optimizer steps) after which the run ends. Of several limits the first reached ends it.
        max_epochs: passes over the training data after which the run ends.
        max_samples: samples after which the run ends, over all ranks.
        max_tokens: tokens after which the run ends, over all ranks.
        max_env_steps: steps in environments after which the run ends, over all ranks.
        max_minutes: minutes of training, without evaluation and saving, after which the run ends.
        best_metric: metric of the evaluation that selects the best model; None for the task's own.
        patience: evaluations in a row without improvement after which the run ends (early stopping); None: never.
        min_delta: an improvement of the metric must be larger than this to reset the patience.
        goal: value of the metric at which the run ends; None for none.
        eval_every: updates between evaluations; None for 20 evaluations in a run, or every 1,000 updates if only
            minutes are limited.
        save_every: updates between checkpoints; None for 20 in a run, or every 1,000 updates if only minutes are
            limited. A checkpoint is also saved at each best evaluation, and after `save_minutes`.
        save_minutes: longest time between checkpoints in minutes.
        log_every: updates between log lines.
        keep_last: number of checkpoints to keep, beside the best.
        tensorboard: also write the log for TensorBoard, into the run's folder.
        device: "auto" (CUDA, else MPS, else the CPU), "cpu", "cuda", "cuda:1" or "mps".
        precision: number format of forward passes; "auto" is bf16 where that is faster, fp16 on a GPU without bf16,
            else fp32 (the rule is in `aibig.training.devices.precision`).
        threads: CPU threads; "auto" is 1 on a CPU for models of fewer than 100,000 parameters, else torch's own number.
        accumulate: micro-batches per update.
        clip_norm: largest norm of the gradient, longer ones are scaled down to it; None for no clipping.
        ema_decay: decay of a moving average of the weights, which is evaluated and exported in their place; None for
            no average.
        compile: compile the model by torch.compile.
        parallel: how several ranks share the model: "replicate", a copy each (DDP), or "fully_shard", a part of the
            parameters each (FSDP).
        deterministic: use only algorithms that repeat exactly, on CUDA too.

    Raises:
        UserError: no limit is set, or the device is not there.
    """

    task: Task  # these three from the beginning of `fit`
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
        seed_generators(derive_seed(seed, "model"))  # the same first weights on every rank

    def fit(self, task: Task, folder: str | Path | None = None, *, resume: bool = False) -> Result:
        """Train up to the first limit; then test the best weights once, and leave them in the task's model.

        Ctrl-C and SIGTERM save, and end with `interrupted`. An error between two updates, in an evaluation or a
        callback say, is raised after a checkpoint has been saved, so that a resume goes on exactly there. For an
        error within an update the last checkpoint counts.

        Args:
            task: made with this trainer's `context`.
            folder: of the run, where checkpoints/ and metrics.jsonl go; None to write nothing.
            resume: go on exactly from the newest whole checkpoint in that folder.

        Raises:
            UserError: the task does not count what is limited, or does not evaluate the metric that selects the best.
            Diverged: loss or gradient were not finite for 100 updates in a row.
        """
        with self._process_settings(task):
            self._set_up(task, folder, resume)
            steps = self.limits.max_counts.get("steps")
            progress_bar = self._run_log.progress_bar(self.progress.step, None if steps is None else int(steps))
            with progress_bar, self._stop_signal.handled(), self._save_on_error():
                self._run_pending_actions()  # those that an error prevented before the run was resumed
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
        """The metrics of a task's model as it is, with this trainer's device, precision and threads.

        Args:
            task: made with this trainer's `context`.
            split: "validation" or "test".
        """
        with self._process_settings(task):
            task.model.to(self.device)
            return task.evaluate(split)

    def outcome(self, task: Task, split: str) -> Outcome | None:
        """The predictions and targets from which `evaluate` computes its metrics; None if the task has none to show.

        Args:
            task: made with this trainer's `context`.
            split: "validation" or "test".
        """
        with self._process_settings(task):
            task.model.to(self.device)
            return task.outcome(split)

    def model_state_dict(self, task: Task) -> dict[str, Tensor]:
        """The state of a task's model, unsharded on the main rank. Every rank must call it.

        Args:
            task: after `fit`.
        """
        return full_state_dict(task.model)

    def checkpoint_bytes(self) -> int:
        """Bytes of this rank's files of a checkpoint of the run as it is now. Every rank must call it."""
        return sum(checkpoint.size(content) for content in self._state.files().values())

    def check_limits(self, task: Task) -> None:
        """Check that a task counts what is limited.

        Args:
            task: to be trained.

        Raises:
            UserError: it does not.
        """
        self.limits.check_counts({"steps", *task.counts, *(["epochs"] if task.updates_per_epoch else [])})

    def resolve_auto(self, task: Task) -> dict[str, Any]:
        """What "auto" stands for: device, precision and threads, to be saved with the run.

        Args:
            task: to be trained.
        """
        self.precision = choose_precision(self.precision, self.device, task.model)
        self.threads = choose_threads(self.threads, self.device, task.model)
        device = self.device.type if self.requested_device == "auto" else self.requested_device
        return {"device": device, "precision": self.precision, "threads": self.threads}

    # ---------------------------------------------------------------- before the first update

    @contextmanager
    def _process_settings(self, task: Task) -> Iterator[None]:
        """Threads, precision and determinism of this run; afterwards the process gets its own back."""
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
        self._weight_losses = self.accumulate > 1 or self.world.size > 1  # by their batch, to sum them
        self._consecutive_skips, self._fraction_before = 0, 0.0
        self._stop_signal, self._in_update = StopSignal(), False
        seed_generators(derive_seed(self.context.seed, "training", self.world.rank))
        if resume:
            self._state.resume()
        self._at_last_log = dict(self.progress.counts), self.progress.train_seconds
        self.stopwatch = Stopwatch(self.device, self.progress.train_seconds)
        if self.selection.needs_evaluation and not self.progress.step:  # rather now than after a twentieth of the run
            self.selection.check(self._validation_metrics(), task.primary_metric)
        self._call_callbacks("on_begin", self)

    # ---------------------------------------------------------------- an update

    def _train_step(self) -> None:
        """One update. Nothing in here waits for the device, unless the task does."""
        self._set_learning_rate()
        loss, weight = self._accumulate_gradients()
        taken, metrics = self._gradient_step.step(loss, weight if self._weight_losses else None)
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
        """Forward and backward of each micro-batch. Returns the sums of their losses and of their weights."""
        task, scaler, counts = self.task, self._state.scaler, self.progress.counts
        total_loss, total_weight = None, 0.0
        for micro_batch in range(self.accumulate):
            batch = self._to_device(task.next_batch())
            if self.world.size > 1:
                set_gradient_sync(task.model, micro_batch == self.accumulate - 1)
            with self.context.autocast():
                loss = task.loss(batch)
            value = loss.value * batch.weight if self._weight_losses else loss.value
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
        """Raise Diverged after 100 skipped updates in a row, when `skipped` of the latest `updates` were."""
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
        """What is to be done between this update and the next, in this order."""
        due = {
            "log": self.progress.step % self.log_every == 0,
            "evaluate": self._is_due(self.eval_every),
            "save": self._is_due(self.save_every) or self._is_save_overdue(),
        }
        return [action for action, is_due in due.items() if is_due]

    def _is_due(self, every: int | None) -> bool:
        """Whether an action falls on this step: every so many updates, or twenty times in the run."""
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
        """Each is removed from the list when its own work is done, before callbacks are called."""
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
        if not self._gradient_step.host_checks:  # only now does the host know
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
        line = {"kind": "train", **self.progress.position(), **means, **state, **cost}
        self._run_log.write(line)
        shown = {name: means[name] for name in ("loss", self.task.primary_metric) if name in means}
        self._run_log.set_postfix(shown | rates)
        self._complete("log")
        self._call_callbacks("on_log", line)

    def _evaluate(self, saving: bool = True) -> None:
        metrics = self._validation_metrics()
        self.progress.evaluated_step = self.progress.step
        if not metrics:
            self._complete("evaluate")
            return
        line = {"kind": "validation", **self.progress.position(), **metrics}
        is_best = self.selection.judge(metrics, self.task.primary_metric, self.task.lower_is_better, self.progress)
        self._run_log.write(line)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        self._run_log.info(f"step {self.progress.step}: validation {shown}{' (best)' if is_best else ''}")
        self._log_sample()
        self._complete("evaluate")
        if is_best:
            self._checkpoints.best_weights = None  # those of an earlier best do not belong into this checkpoint
            if not (saving and self._save()):
                self._checkpoints.best_weights = self._state.evaluated_weights()
        self._call_callbacks("on_evaluation", line)

    def _validation_metrics(self) -> dict[str, float]:
        with self.stopwatch.paused(), self._state.average_parameters():
            metrics: dict[str, float] = self.world.broadcast(self.task.evaluate("validation"))
        return metrics  # the main rank's, since all must find the same model best

    def _log_sample(self) -> None:
        with self.stopwatch.paused(), self._state.average_parameters():
            sample = self.task.sample()
        if sample:
            self._run_log.write({"kind": "sample", **self.progress.position(), "text": sample})
            self._run_log.info(sample)

    def _save(self) -> bool:
        """Write a checkpoint, if there is a folder for it. Returns whether this step has a checkpoint."""
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
        """On the main rank. Mappings are copied, so that a callback changes nothing."""
        if self.world.is_main:
            for callback in self.callbacks:
                copies = (dict(argument) if isinstance(argument, Mapping) else argument for argument in arguments)
                getattr(callback, method)(*copies)

    # ---------------------------------------------------------------- the end

    def _should_stop(self) -> bool:
        known_to_all = self.limits.fraction_done(self.progress) >= 1.0 or bool(self.selection.reached(self.progress))
        if self.world.size > 1 and self.progress.step % self.log_every:
            return known_to_all  # the rest takes asking the other ranks
        return known_to_all or self.world.any(self._reached_limit() is not None or self._stop_signal.received)

    def _reached_limit(self) -> str | None:
        return self.selection.reached(self.progress) or self.limits.reached(self.progress, self.stopwatch.seconds())

    def _finish(self) -> Result:
        """Save; unless the user stopped the run, load the best weights and test them.

        Saved first, so that a run that is resumed with a longer limit does not hold the final log line and evaluation.
        """
        stop_requested = self.world.any(self._stop_signal.received)
        stopped_by = self.world.broadcast(self._reached_limit())
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
            line = {"kind": "test", **self.progress.position(), **metrics}
            self._run_log.write(line)
            self._call_callbacks("on_evaluation", line)
        self._run_log.flush()
        return Result(metrics, self.progress, stopped_by)

    @contextmanager
    def _save_on_error(self) -> Iterator[None]:
        """If an error ends the run between two updates, save first: then nothing is lost.

        Prints whether a checkpoint was saved, unless the error is a UserError, which is printed elsewhere.
        """
        try:
            yield
        except Diverged:
            raise
        except Exception as error:
            if self._checkpoints.folder is not None and self.progress.step:
                with suppress(Exception):  # the error that came first is the one to show
                    if not self._in_update and self.world.size == 1:  # other ranks know nothing of it
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
