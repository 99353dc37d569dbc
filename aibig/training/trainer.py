"""One loop for every task. Knows the Task contract, never which task it trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
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
from aibig.training.devices.distributed import World, synchronise_gradients, whole_state
from aibig.training.devices.generators import seed_generators
from aibig.training.devices.precision import autocast, choose_precision, choose_threads
from aibig.training.limits import Limits, Progress, Stopwatch
from aibig.training.optimizers import builders as optimizer
from aibig.training.optimizers import schedules as schedule
from aibig.training.optimizers.gradient_step import GradientStep, norm_of
from aibig.training.run_state import RunState
from aibig.training.selection import Selection
from aibig.training.signals import StopSignal

PARTS_OF_A_RUN = 20  # how often a run is evaluated and saved, where nothing else is said
STEPS_BETWEEN = 1_000  # and where only its minutes are limited
INTERRUPTED = "interrupted"
SKIPPED_IN_A_ROW_MAX = 100  # GradScaler needs about 16 to find its scale; a run that skips more is lost


@dataclass
class Result:
    """What came of a run. `metrics` are those of the model as it is left, on the test part.

    stopped_by: the limit that ended it, as its setting is called ("max_epochs", "patience"), or "interrupted".
    """

    metrics: dict[str, float]
    progress: Progress
    stopped_by: str

    @property
    def interrupted(self) -> bool:
        """Whether the user stopped it."""
        return self.stopped_by == INTERRUPTED


class Trainer:
    """Trains any Task: forward, backward, update; every so often log, evaluate, save.

    max_steps (updates), max_epochs, max_samples, max_tokens, max_env_steps, max_minutes (of training): the first
    that is reached ends the run; schedules run over the counted ones.
    best_metric: of the evaluation, selects the best model; None is the task's own. patience: the run ends after so
    many evaluations in a row without a gain of more than min_delta over the last that had one. goal: the run ends at
    the first evaluation as good as that.
    eval_every, save_every, log_every: in updates. By default a run is evaluated and saved twenty times, or
    every 1,000 updates if only its minutes are limited; beside that it is saved at each best evaluation and every
    `save_minutes`. keep_last: checkpoints kept beside the best. tensorboard: write its files into the run's folder.
    callbacks: are told what happens (`aibig.training.callbacks`).
    device: "auto" is CUDA, then MPS, then the CPU. precision, threads: "auto" as
    `aibig.training.devices.precision` says.
    accumulate: micro-batches of an update. clip_norm: the gradient's largest norm. ema_decay: evaluate and leave a
    moving average of the weights. parallel: what several ranks do with the model. deterministic: on CUDA too, only
    algorithms that repeat exactly.

    Raises UserError if no limit is set or the device is not there.
    """

    task: Task  # these three from the beginning of `fit`
    run_folder: Path | None
    stopwatch: Stopwatch

    @checked
    def __init__(
        self,
        make_optimizer: optimizer.OptimizerMaker | None = None,
        learning_rate_factor: schedule.Schedule | None = None,
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
        counted = {"steps": max_steps, "epochs": max_epochs, "samples": max_samples, "tokens": max_tokens}
        counted["env_steps"] = max_env_steps
        self.limits = Limits(
            {name: limit for name, limit in counted.items() if limit is not None},
            None if max_minutes is None else max_minutes * 60,
        )
        self.make_optimizer = make_optimizer or optimizer.adamw()
        self.learning_rate_factor = learning_rate_factor or schedule.constant()
        self.limits.check_schedule(self.learning_rate_factor)
        self.selection = Selection(best_metric, patience, min_delta, goal)
        self.eval_every, self.save_every, self.log_every = eval_every, save_every, log_every
        self.save_seconds, self.keep_last = save_minutes * 60, keep_last
        self.precision: str = precision
        self.threads: int | str = threads
        self.accumulate, self.clip_norm, self.ema_decay = accumulate, clip_norm, ema_decay
        if any(isinstance(one, type) for one in callbacks):
            raise UserError("callbacks: give objects, not classes: callbacks=[MyLogger()]")
        self.callbacks, self.tensorboard = list(callbacks), tensorboard
        self.progress = Progress()
        self._at_last_log: tuple[dict[str, int], float] = {}, 0.0
        self.compile, self.parallel, self.deterministic = compile, parallel, deterministic
        self.world = World()
        self.wanted_device = device
        self.device = choose_device(device, self.world.local_rank)
        self.world.join(self.device)
        if self.device.type == "cpu":
            prepare_cpu()
        generator = torch.Generator().manual_seed(derive_seed(seed, "task", self.world.rank))
        self.context = Context(self.device, seed, self.world.rank, self.world.size, accumulate, nullcontext, generator)
        seed_generators(derive_seed(seed, "model"))  # the same first weights on every rank

    def fit(self, task: Task, folder: str | Path | None = None, *, resume: bool = False) -> Result:
        """Train `task` up to the first limit; leave its model with the best weights, and test those once.

        folder: where checkpoints/ and metrics.jsonl go; without it nothing is written. resume: go on from the
        newest whole checkpoint there, exactly. Ctrl-C and SIGTERM save, and end with `interrupted`.

        An error of the task's between two updates, in an evaluation say, or of a callback is saved before, so that
        a resume goes on exactly there; in the middle of an update nothing is whole, and the last checkpoint counts.

        Raises UserError if the task does not count what a limit limits or has not what selects the best, Diverged if
        its numbers stay not finite.
        """
        with self._process_set_up_for(task):
            self._begin(task, folder, resume)
            with self._logbook.open_until_here(), self._stop_wish.heard(), self._saved_if_it_fails():
                self._follow_up()  # what an error has left to be done before the run was resumed
                while not self._is_over():
                    self._is_whole = False
                    self._update()
                    self.progress.owed = self._due()
                    self._is_whole = True
                    self._follow_up()
            result = self._end()
            self._tell("on_end", result)
            return result

    def evaluate(self, task: Task, split: str) -> dict[str, float]:
        """The metrics of `task`'s model as it is, with this trainer's device, precision and threads."""
        with self._process_set_up_for(task):
            task.model.to(self.device)
            return task.evaluate(split)

    def outcome(self, task: Task, split: str) -> Outcome | None:
        """What an evaluation of `task`'s model as it is sees, as `evaluate` measures it; None if it does not say."""
        with self._process_set_up_for(task):
            task.model.to(self.device)
            return task.outcome(split)

    def weights(self, task: Task) -> dict[str, Tensor]:
        """The state of `task`'s model, whole on the main rank however it is sharded. Every rank must call it."""
        return whole_state(task.model)

    def checkpoint_bytes(self) -> int:
        """How many bytes this rank's part of a checkpoint of the run as it stands takes. Every rank must call it."""
        return sum(checkpoint.size(content) for content in self._state.files().values())

    def _update(self) -> None:
        """One update: micro-batches, then a step. The trainer waits for the device nowhere in here; a task may."""
        progress, task, scaler = self.progress, self.task, self._state.scaler
        self._fraction_before = fraction = self.limits.fraction_done(progress)
        factor = self.learning_rate_factor(progress.step, fraction)
        for group in self._state.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        summed = self.accumulate > 1 or self.world.size > 1
        weight, total = 0.0, None
        for micro in range(self.accumulate):
            batch = self._to_device(task.next_batch())
            if self.world.size > 1:
                synchronise_gradients(task.model, micro == self.accumulate - 1)
            with self.context.autocast():
                loss = task.loss(batch)
            value = loss.value * batch.weight if summed else loss.value
            (value if scaler is None else scaler.scale(value)).backward()
            task.after_loss(loss.carry)
            detached = loss.value.detach()
            self._logbook.add({"loss": detached, **loss.metrics}, batch.weight)
            total = detached if total is None else total + detached
            weight += batch.weight
            for name, count in batch.counts.items():
                progress.counts[name] = progress.counts.get(name, 0) + count
        assert total is not None
        taken, metrics = self._gradient_step.take(total, weight if summed else None)
        self._logbook.add(metrics, 1.0)
        progress.step += 1
        if task.updates_per_epoch is not None:
            progress.epoch = progress.step * self.accumulate / task.updates_per_epoch
        if taken:
            self._state.after_update()
        if self._gradient_step.host_checks:
            self._watch_skipped(1, 0 if taken else 1)
        self._logbook.advance()

    def _due(self) -> list[str]:
        """What is to be done between this update and the next, in this order."""
        due = {
            "log": self.progress.step % self.log_every == 0,
            "evaluate": self._is_due(self.eval_every),
            "save": self._is_due(self.save_every) or self._saving_is_overdue(),
        }
        return [what for what, is_due in due.items() if is_due]

    def _follow_up(self) -> None:
        """Do what is owed. Each strikes itself off when its work is done, before anyone else is told of it."""
        for what in list(self.progress.owed):
            {"log": self._log, "evaluate": self._evaluate, "save": self._save}[what]()

    def _settle_up(self, what: str) -> None:
        self.progress.owed = [one for one in self.progress.owed if one != what]

    def _log(self) -> None:
        skips = self._logbook.values("skipped")
        skipped = round(sum(skips))
        means, seconds = self._logbook.means(), self.stopwatch.seconds()
        self.progress.skipped += skipped
        if skipped:
            self._logbook.say(
                f"step {self.progress.step}: {skipped} of the last {len(skips)} updates were skipped, "
                "since their loss or gradient was not finite"
            )
        if not self._gradient_step.host_checks:  # only now does the host know
            self._watch_skipped(len(skips), skipped)
        counts_before, seconds_before = self._at_last_log
        self._at_last_log = dict(self.progress.counts), seconds
        rates = {
            f"{name}_per_second": (count - counts_before.get(name, 0)) / max(seconds - seconds_before, 1e-9)
            for name, count in self.progress.counts.items()
        }
        norm = norm_of([one.detach() for one in self._gradient_step.parameters]).item()
        state = {"skipped": skipped, "parameter_norm": norm, "lr": self._state.optimizer.param_groups[0]["lr"]}
        cost = {"seconds": seconds, **rates, **peak_memory(self.device)}
        line = {"kind": "train", **self.progress.position(), **means, **state, **cost}
        self._logbook.write(line)
        self._logbook.show({name: means[name] for name in ("loss", self.task.primary_metric) if name in means} | rates)
        self._settle_up("log")
        self._tell("on_log", line)

    def _evaluate(self, saving: bool = True) -> None:
        metrics = self._validation_metrics()
        self.progress.evaluated_step = self.progress.step
        if not metrics:
            self._settle_up("evaluate")
            return
        line = {"kind": "validation", **self.progress.position(), **metrics}
        better = self.selection.judge(metrics, self.task.primary_metric, self.task.lower_is_better, self.progress)
        self._logbook.write(line)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        self._logbook.note(f"step {self.progress.step}: validation {shown}{' (best)' if better else ''}")
        self._show_sample()
        self._settle_up("evaluate")
        if better:
            self._checkpoints.best_weights = None  # those of an earlier best do not belong into this checkpoint
            if not (saving and self._save()):
                self._checkpoints.best_weights = self._state.evaluated_weights()
        self._tell("on_evaluation", line)

    def _validation_metrics(self) -> dict[str, float]:
        with self.stopwatch.paused(), self._state.averaged():
            metrics: dict[str, float] = self.world.share(self.task.evaluate("validation"))
        return metrics  # the main rank's, since all must find the same model best

    def _show_sample(self) -> None:
        with self.stopwatch.paused(), self._state.averaged():
            sample = self.task.sample()
        if sample:
            self._logbook.write({"kind": "sample", **self.progress.position(), "text": sample})
            self._logbook.note(sample)

    def _save(self) -> bool:
        """Write a checkpoint, if there is a folder for it. Returns whether this moment is saved."""
        self._settle_up("save")
        folder = self._checkpoints.folder
        if folder is None:
            return False
        if self._checkpoints.holds(self.progress):
            return True
        with self.stopwatch.paused():
            self.progress.train_seconds = self.stopwatch.seconds()
            self._logbook.flush()
            if not self._checkpoints.write(folder, self.progress, self._state.files):
                return False
        self._tell("on_save", checkpoint.path_of(folder, self.progress.step))
        return True

    def _end(self) -> Result:
        """Save; unless the user stopped the run, take the best weights and test them.

        Saved before the last log line and evaluation: a run that is resumed with a longer limit never had them.
        """
        asked_to = self.world.any(self._stop_wish.expressed)
        by = self.world.share(self._limit_reached())
        if by is None:  # another rank's clock may be ahead of the main one's
            by = INTERRUPTED if asked_to else "max_minutes"
        self._save()
        if self._logbook.values("skipped"):
            self._log()
        if by != INTERRUPTED and self.progress.evaluated_step != self.progress.step:
            self._evaluate(saving=False)
        self.progress.train_seconds = self.stopwatch.seconds()
        metrics: dict[str, float] = {}
        if by != INTERRUPTED:
            self._state.take_best_weights()
            metrics = self.world.share(self.task.evaluate("test"))
            line = {"kind": "test", **self.progress.position(), **metrics}
            self._logbook.write(line)
            self._tell("on_evaluation", line)
        self._logbook.flush()
        return Result(metrics, self.progress, by)

    def _tell(self, moment: str, *facts: Any) -> None:
        if self.world.is_main:
            for one in self.callbacks:
                getattr(one, moment)(*(dict(fact) if isinstance(fact, Mapping) else fact for fact in facts))

    @contextmanager
    def _saved_if_it_fails(self) -> Iterator[None]:
        """If an error ends the run between two updates, save first: then nothing is lost.

        Say which is the case, except of a UserError, which says all that there is to say.
        """
        try:
            yield
        except Diverged:
            raise
        except Exception as error:
            if self._checkpoints.folder is not None and self.progress.step:
                with suppress(Exception):  # the error that came first is the one to show
                    if self._is_whole and self.world.size == 1:  # other ranks know nothing of it
                        self._save()
                if isinstance(error, UserError):  # says all in its own line
                    raise
                saved = checkpoint.steps(self._checkpoints.folder)
                last = f"the last checkpoint is of step {saved[-1]}; " if saved else "there is no checkpoint yet; "
                if saved[-1:] == [self.progress.step]:
                    last = "everything so far is saved; "
                self._logbook.say(
                    f"step {self.progress.step}: an error of what is trained, or of a callback, ends the run; {last}"
                    "mend it and go on with --resume"
                )
            raise

    # ---------------------------------------------------------------- beginning and resuming

    def check(self, task: Task) -> None:
        """Raise UserError if a limit counts what `task` does not."""
        self.limits.check_counts({"steps", *task.counts, *(["epochs"] if task.updates_per_epoch else [])})

    def settle(self, task: Task) -> dict[str, Any]:
        """What "auto" comes to for `task`, to be written down with the run: device, precision, threads."""
        self.precision = choose_precision(self.precision, self.device, task.model)
        self.threads = choose_threads(self.threads, self.device, task.model)
        device = self.device.type if self.wanted_device == "auto" else self.wanted_device
        return {"device": device, "precision": self.precision, "threads": self.threads}

    @contextmanager
    def _process_set_up_for(self, task: Task) -> Iterator[None]:
        """Threads, precision and determinism as chosen for `task`; the process has its own back afterwards."""
        self.settle(task)
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

    def _begin(self, task: Task, place: str | Path | None, resume: bool) -> None:
        self.task, self.run_folder = task, None if place is None else Path(place)
        self.check(task)
        if self.tensorboard and self.run_folder is not None and self.world.is_main:
            from aibig.training.logs.tensorboard import TensorBoard

            self.callbacks = [*(one for one in self.callbacks if not isinstance(one, TensorBoard)), TensorBoard()]
        self.progress = Progress()
        self._state = RunState(
            task,
            self.context,
            self.world,
            self.run_folder,
            self.progress,
            make_optimizer=self.make_optimizer,
            ema_decay=self.ema_decay,
            scaled=self.precision == "fp16",
            keep_last=self.keep_last,
            parallel=self.parallel,
            compile=self.compile,
        )
        self._logbook, self._checkpoints = self._state.logbook, self._state.keeping
        optimizer, scaler, parameters = self._state.optimizer, self._state.scaler, self._state.parameters()
        self._gradient_step = GradientStep(optimizer, parameters, self.world, self.device, scaler, self.clip_norm)
        self._skipped_in_a_row, self._fraction_before = 0, 0.0
        self._stop_wish, self._is_whole = StopSignal(), True
        seed_generators(derive_seed(self.context.seed, "training", self.world.rank))
        if resume:
            self._state.resume()
        self._at_last_log = dict(self.progress.counts), self.progress.train_seconds
        self.stopwatch = Stopwatch(self.device, self.progress.train_seconds)
        if self.selection.needs_evaluation and not self.progress.step:  # rather now than after a twentieth of the run
            self.selection.check(self._validation_metrics(), task.primary_metric)
        self._tell("on_begin", self)
        steps = self.limits.counts.get("steps")
        self._logbook.show_bar(self.progress.step, None if steps is None else int(steps))

    # ---------------------------------------------------------------- small questions

    def _is_due(self, every: int | None) -> bool:
        """Whether something falls on this step: every so many updates, or twenty times over the run."""
        if every is not None:
            return self.progress.step % every == 0
        if not self.limits.counts:
            return self.progress.step % STEPS_BETWEEN == 0
        before, now = self._fraction_before, self.limits.fraction_done(self.progress)
        return int(before * PARTS_OF_A_RUN) < int(now * PARTS_OF_A_RUN)

    def _is_over(self) -> bool:
        known_to_all = self.limits.fraction_done(self.progress) >= 1.0 or bool(self.selection.reached(self.progress))
        if self.world.size > 1 and self.progress.step % self.log_every:
            return known_to_all  # the rest takes asking the other ranks
        return known_to_all or self.world.any(self._limit_reached() is not None or self._stop_wish.expressed)

    def _limit_reached(self) -> str | None:
        return self.selection.reached(self.progress) or self.limits.reached(self.progress, self.stopwatch.seconds())

    def _saving_is_overdue(self) -> bool:
        overdue = self._checkpoints.seconds_since() > self.save_seconds
        if self.world.size > 1:
            return self.progress.step % self.log_every == 0 and self.world.any(overdue)
        return overdue

    def _watch_skipped(self, updates: int, skipped: int) -> None:
        """End a run whose updates are all skipped, as far as the host knows: of the last `updates`, `skipped`."""
        self._skipped_in_a_row = self._skipped_in_a_row + skipped if skipped == updates else 0
        if self._skipped_in_a_row >= SKIPPED_IN_A_ROW_MAX:
            folder = self._checkpoints.folder
            kept = "" if folder is None else f"; the checkpoints in {folder} are kept"
            raise Diverged(
                f"step {self.progress.step}: {self._skipped_in_a_row} updates in a row had a loss or gradient that "
                f"is not finite; lower optimizer.lr, set trainer.clip_norm or look at the data{kept}"
            )

    def _to_device(self, batch: Batch) -> Batch:
        if self.device.type != "cpu":
            batch.data = move(batch.data, self.device)
        return batch
