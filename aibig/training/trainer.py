"""One loop for every task. Knows the Task contract, never which task it trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from aibig.errors import Diverged, UserError
from aibig.layers.shards import full
from aibig.outcomes import Outcome
from aibig.seeds import derive_seed
from aibig.settings import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, checked
from aibig.tasks.base import Batch, Context, Task
from aibig.training import checkpoint, optimizer, schedule
from aibig.training.average import WeightAverage
from aibig.training.callbacks import Callback
from aibig.training.cpu import prepare_cpu
from aibig.training.device import choose_device, move, peak_memory
from aibig.training.distributed import (
    World,
    distribute,
    load_whole_state,
    synchronise_gradients,
    whole_state,
)
from aibig.training.generators import generators_state, load_generators_state, seed_generators
from aibig.training.gradients import GradientStep, norm_of
from aibig.training.keeping import Keeping
from aibig.training.limits import Limits, Progress, Stopwatch
from aibig.training.logbook import Logbook
from aibig.training.precision import autocast, choose_precision, choose_threads
from aibig.training.selection import Selection
from aibig.training.signals import StopWish

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
    device: "auto" is CUDA, then MPS, then the CPU. precision, threads: "auto" as `aibig.training.precision` says.
    accumulate: micro-batches of an update. clip_norm: the gradient's largest norm. ema_decay: evaluate and leave a
    moving average of the weights. parallel: what several ranks do with the model. deterministic: on CUDA too, only
    algorithms that repeat exactly.

    Raises UserError if no limit is set or the device is not there.
    """

    task: Task  # these five from the beginning of `fit`
    run_folder: Path | None
    stopwatch: Stopwatch
    logbook: Logbook
    keeping: Keeping

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
            with self.logbook.open_until_here(), self._stop_wish.heard(), self._saved_if_it_fails():
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
        return sum(checkpoint.size(content) for content in self._state().values())

    def _update(self) -> None:
        """One update: micro-batches, then a step. Nothing in here waits for the device."""
        progress, task = self.progress, self.task
        self._fraction_before = fraction = self.limits.fraction_done(progress)
        factor = self.learning_rate_factor(progress.step, fraction)
        for group in self.optimizer.param_groups:
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
            (value if self.scaler is None else self.scaler.scale(value)).backward()
            task.after_loss(loss.carry)
            detached = loss.value.detach()
            self.logbook.add({"loss": detached, **loss.metrics}, batch.weight)
            total = detached if total is None else total + detached
            weight += batch.weight
            for name, count in batch.counts.items():
                progress.counts[name] = progress.counts.get(name, 0) + count
        assert total is not None
        taken, metrics = self.gradient_step.take(total, weight if summed else None)
        self.logbook.add(metrics, 1.0)
        progress.step += 1
        if task.updates_per_epoch is not None:
            progress.epoch = progress.step * self.accumulate / task.updates_per_epoch
        if taken:
            task.after_update(progress.step)
            if self.average is not None:
                self.average.update(task.model, progress.step)
        if self.gradient_step.host_looks:
            self._watch_skipped(1, 0 if taken else 1)
        self.logbook.advance()

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
        skips = self.logbook.values("skipped")
        skipped = round(sum(skips))
        means, seconds = self.logbook.means(), self.stopwatch.seconds()
        self.progress.skipped += skipped
        if skipped:
            self.logbook.say(
                f"step {self.progress.step}: {skipped} of the last {len(skips)} updates were skipped, "
                "since their loss or gradient was not finite"
            )
        if not self.gradient_step.host_looks:  # only now does the host know
            self._watch_skipped(len(skips), skipped)
        counts_before, seconds_before = self._at_last_log
        self._at_last_log = dict(self.progress.counts), seconds
        rates = {
            f"{name}_per_second": (count - counts_before.get(name, 0)) / max(seconds - seconds_before, 1e-9)
            for name, count in self.progress.counts.items()
        }
        norm = norm_of([one.detach() for one in self.gradient_step.parameters]).item()
        state = {"skipped": skipped, "parameter_norm": norm, "lr": self.optimizer.param_groups[0]["lr"]}
        cost = {"seconds": seconds, **rates, **peak_memory(self.device)}
        line = {"kind": "train", **self.progress.position(), **means, **state, **cost}
        self.logbook.write(line)
        self.logbook.show({name: means[name] for name in ("loss", self.task.headline) if name in means} | rates)
        self._settle_up("log")
        self._tell("on_log", line)

    def _evaluate(self, saving: bool = True) -> None:
        metrics = self._validation_metrics()
        self.progress.evaluated_step = self.progress.step
        if not metrics:
            self._settle_up("evaluate")
            return
        line = {"kind": "validation", **self.progress.position(), **metrics}
        better = self.selection.judge(metrics, self.task.headline, self.task.lower_is_better, self.progress)
        self.logbook.write(line)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        self.logbook.note(f"step {self.progress.step}: validation {shown}{' (best)' if better else ''}")
        self._show_sample()
        self._settle_up("evaluate")
        if better:
            self.keeping.best_weights = None  # those of an earlier best do not belong into this checkpoint
            if not (saving and self._save()):
                self.keeping.best_weights = self._copy_of_weights()
        self._tell("on_evaluation", line)

    def _validation_metrics(self) -> dict[str, float]:
        with self.stopwatch.paused(), self._averaged():
            metrics: dict[str, float] = self.world.share(self.task.evaluate("validation"))
        return metrics  # the main rank's, since all must find the same model best

    def _show_sample(self) -> None:
        with self.stopwatch.paused(), self._averaged():
            sample = self.task.sample()
        if sample:
            self.logbook.write({"kind": "sample", **self.progress.position(), "text": sample})
            self.logbook.note(sample)

    def _save(self) -> bool:
        """Write a checkpoint, if there is a folder for it. Returns whether this moment is saved."""
        self._settle_up("save")
        folder = self.keeping.folder
        if folder is None:
            return False
        if self.keeping.holds(self.progress):
            return True
        with self.stopwatch.paused():
            self.progress.train_seconds = self.stopwatch.seconds()
            self.logbook.flush()
            if not self.keeping.write(folder, self.progress, self._state):
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
        if self.logbook.values("skipped"):
            self._log()
        if by != INTERRUPTED and self.progress.evaluated_step != self.progress.step:
            self._evaluate(saving=False)
        self.progress.train_seconds = self.stopwatch.seconds()
        metrics: dict[str, float] = {}
        if by != INTERRUPTED:
            self._take_best_weights()
            metrics = self.world.share(self.task.evaluate("test"))
            line = {"kind": "test", **self.progress.position(), **metrics}
            self.logbook.write(line)
            self._tell("on_evaluation", line)
        self.logbook.flush()
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
            if self.keeping.folder is not None and self.progress.step:
                with suppress(Exception):  # the error that came first is the one to show
                    if self._is_whole and self.world.size == 1:  # other ranks know nothing of it
                        self._save()
                if isinstance(error, UserError):  # says all in its own line
                    raise
                saved = checkpoint.steps(self.keeping.folder)
                last = f"the last checkpoint is of step {saved[-1]}; " if saved else "there is no checkpoint yet; "
                if saved[-1:] == [self.progress.step]:
                    last = "everything so far is saved; "
                self.logbook.say(
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
        self.run_folder = folder = None if place is None else Path(place)
        self.task = task
        self.check(task)
        if self.tensorboard and folder is not None and self.world.is_main:
            from aibig.training.tensorboard import TensorBoard

            self.callbacks = [*(one for one in self.callbacks if not isinstance(one, TensorBoard)), TensorBoard()]
        self.average = None if self.ema_decay is None else WeightAverage(task.model, self.ema_decay)
        for module in self._modules().values():  # copies are made by now: shard them all alike
            module.to(self.device)
            if self.world.size > 1:
                distribute(module, self.parallel)
            if self.compile:
                module.compile()
        self.optimizer = self.make_optimizer(task.model)
        for group in self.optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        parameters = [one for group in self.optimizer.param_groups for one in group["params"]]
        self.scaler = torch.amp.GradScaler(self.device.type) if self.precision == "fp16" else None
        self.gradient_step = GradientStep(
            self.optimizer, parameters, self.world, self.device, self.scaler, self.clip_norm
        )
        self.progress = Progress()
        self.logbook = Logbook(self.world, folder)
        checkpoints = None if folder is None else folder / "checkpoints"
        self.keeping = Keeping(checkpoints, self.keep_last, self.world, self.logbook.say)
        self._skipped_in_a_row, self._fraction_before = 0, 0.0
        self._stop_wish, self._is_whole = StopWish(), True
        seed_generators(derive_seed(self.context.seed, "training", self.world.rank))
        if resume:
            self._resume()
        self._at_last_log = dict(self.progress.counts), self.progress.train_seconds
        self.stopwatch = Stopwatch(self.device, self.progress.train_seconds)
        if self.selection.needs_evaluation and not self.progress.step:  # rather now than after a twentieth of the run
            self.selection.check(self._validation_metrics(), task.headline)
        self._tell("on_begin", self)
        steps = self.limits.counts.get("steps")
        self.logbook.show_bar(self.progress.step, None if steps is None else int(steps))

    def _modules(self) -> dict[str, torch.nn.Module]:
        """What is placed, sharded, compiled and saved."""
        modules = {"model": self.task.model, **self.task.followers}
        return modules if self.average is None else {**modules, "average": self.average.module}

    def _state(self) -> dict[str, Any]:
        """The state by file: what all ranks share, written by the main one, and this rank's own."""
        shared = {
            "progress": asdict(self.progress),
            **self.keeping.state_dict(),
            "modules": {name: whole_state(module) for name, module in self._modules().items()},
            "optimizer": whole_state(self.task.model, self.optimizer),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "ranks": self.world.size,
        }
        own = {
            "task": self.task.state_dict(),
            "logbook": self.logbook.state_dict(),
            "generators": generators_state(self.context.generator),
        }
        return {"shared": shared, f"rank-{self.world.rank}": own}

    def _resume(self) -> None:
        folder = self.keeping.folder
        assert folder is not None, "only a run with a folder can be resumed"
        path = self.keeping.newest(folder)
        if path is None:
            self.logbook.say(f"{folder}: no whole checkpoint yet; starting from the beginning")
            self.logbook.rewind()
            return
        shared = checkpoint.read(path, "shared")
        if shared["ranks"] != self.world.size:
            raise UserError(
                f"{path}: was written by {shared['ranks']} ranks, this run has {self.world.size}; start as many"
            )
        own = checkpoint.read(path, f"rank-{self.world.rank}", mapped=True)
        self.progress = Progress(**shared["progress"])
        self.task.load_state_dict(own["task"])  # first: it refuses data that the weights may not even fit
        for name, module in self._modules().items():
            load_whole_state(module, shared["modules"][name])
        load_whole_state(self.task.model, shared["optimizer"], self.optimizer)
        if self.scaler is not None:
            self.scaler.load_state_dict(shared["scaler"])
        self.logbook.load_state_dict(own["logbook"])
        load_generators_state(self.context.generator, own["generators"])
        self.logbook.rewind()
        self.keeping.load_state_dict(shared, folder, self.progress.step)

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
        overdue = self.keeping.seconds_since() > self.save_seconds
        if self.world.size > 1:
            return self.progress.step % self.log_every == 0 and self.world.any(overdue)
        return overdue

    def _watch_skipped(self, updates: int, skipped: int) -> None:
        """End a run whose updates are all skipped, as far as the host knows: of the last `updates`, `skipped`."""
        self._skipped_in_a_row = self._skipped_in_a_row + skipped if skipped == updates else 0
        if self._skipped_in_a_row >= SKIPPED_IN_A_ROW_MAX:
            folder = self.keeping.folder
            kept = "" if folder is None else f"; the checkpoints in {folder} are kept"
            raise Diverged(
                f"step {self.progress.step}: {self._skipped_in_a_row} updates in a row had a loss or gradient that "
                f"is not finite; lower optimizer.lr, set trainer.clip_norm or look at the data{kept}"
            )

    def _to_device(self, batch: Batch) -> Batch:
        if self.device.type != "cpu":
            batch.data = move(batch.data, self.device)
        return batch

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        with nullcontext() if self.average is None else self.average.in_place_of(self.task.model):
            yield

    def _copy_of_weights(self) -> dict[str, Tensor]:
        module = self.task.model if self.average is None else self.average.module
        return {name: full(value.detach()).clone() for name, value in module.state_dict().items()}

    def _take_best_weights(self) -> None:
        """Load the weights of the best evaluation; the last ones if there was none."""
        weights = self.keeping.best(self.progress, "model" if self.average is None else "average")
        if weights is not None:
            load_whole_state(self.task.model, weights)
        elif self.average is not None:
            self.average.give_to(self.task.model)
