"""The command that trains: config -> task -> Trainer.fit -> a folder.

python -m aibig.train --config FILE [--out DIR] [--resume] [--seeds N] [--check] [--json] [section.setting=value ...]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aibig.config import Config, load_config, parse_overrides
from aibig.errors import UserError
from aibig.registry import SECTIONS
from aibig.settings import load
from aibig.training.callbacks import Callback

if TYPE_CHECKING:
    from aibig.repeat import Repeated
    from aibig.tasks.base import Task
    from aibig.training.run_folder import Run
    from aibig.training.trainer import Result, Trainer

METRICS_IN_A_LINE = 5


class Told(Callback):
    """Says on standard error where a run is and, if nobody watches its bar, what its evaluations give."""

    def on_begin(self, trainer: Trainer) -> None:
        """Its folder: what --resume takes, should the process be killed."""
        self._trainer = trainer
        print(f"run: {trainer.run_folder}", file=sys.stderr)

    def on_evaluation(self, line: Mapping[str, Any]) -> None:
        """A line for each but the test, which `report` says."""
        if line["kind"] != "test" and not sys.stderr.isatty():
            beside = {"kind", *self._trainer.progress.position()}
            metrics = {name: value for name, value in line.items() if name not in beside}
            print(f"step {line['step']:,}: {line['kind']} {in_words(metrics)}", file=sys.stderr, flush=True)


def train(
    config: str | Path | Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Train what `config` describes and return the run, with `path` and `result`.

    config: a file, a shipped config's name ("nets/digits") or a mapping of sections; to resume `out`, by default that
    run's own. overrides: dotted keys,
    `{"optimizer.lr": 3e-3}`. out: a new folder, by default the next number under runs/. resume: go on with the run
    in `out`, by default the newest one of this config; only limits, logging and saving may be changed. callbacks: see
    `aibig.Callback`.

    In a mapping, an object may stand in place of a name, beside the settings that it takes:
    {"data": {"name": OBJECT, ...}}: a pandas DataFrame (target="column"), a pair (X, y) of arrays, tensors or lists,
    aibig's Arrays, a text or an iterable of texts, data made by hand (a LabelledData).
    {"env": {"name": OBJECT}}: a gymnasium environment, its class, or a function that returns one.
    {"model": {"name": OBJECT}}: a model that `aibig.create_model` made.
    The run's config.yaml only describes it, so that a resume needs the object again.

    Raises UserError for whatever is wrong with what was asked. A run that fails before its first update leaves no
    folder behind.
    """
    checked = load_config(_config_of(out, resume) if config is None else config, overrides)
    from aibig.training import run_folder

    folder = run_folder.find(out, checked.name) if resume else None
    if folder is not None:
        run_folder.adopt_choices(checked, folder)
        if run_folder.is_complete(folder, checked):
            if is_main_rank():
                print(f"{folder}: has ended before; raise its limit (trainer.max_...) to train on", file=sys.stderr)
            return run_folder.Run(folder, run_folder.read_result(folder))
        run_folder.refuse_without_checkpoints(folder)
        checked.weights_follow = run_folder.has_checkpoint(folder)
    elif out is not None and is_main_rank():
        run_folder.refuse_if_in_use(Path(out))
    trainer, task = build(checked, callbacks)
    announce(trainer, task)
    checked.values["trainer"].update(trainer.settle(task))
    if trainer.world.is_main:
        if folder is None:
            folder = run_folder.create(out, checked.name)
        run_folder.begin(folder, checked)
    folder = trainer.world.share(folder)
    with _no_trace_of_a_false_start(trainer, folder, resume):
        result = trainer.fit(task, folder, resume=resume)
    if result.interrupted:
        return run_folder.Run(folder)
    weights = trainer.weights(task)
    if trainer.world.is_main:
        try:
            export(task, trainer, result, weights, folder)
        except OSError as error:
            raise UserError(
                f"{folder}: the model could not be written ({error}); nothing trained is lost: free some space, then "
                f"python -m aibig.train --resume --out {folder}"
            ) from None
    trainer.world.wait()
    return run_folder.Run(folder, run_folder.read_result(folder))


def _config_of(out: str | Path | None, resume: bool) -> Path:
    """The config of the run that is to be resumed in `out`."""
    if out is None or not resume:
        raise UserError("config is missing; to go on with a run give out=RUN and resume=True")
    path = Path(out) / "config.yaml"
    if not path.is_file():
        raise UserError(f"{out}: holds no run to resume (no config.yaml)")
    return path


def announce(trainer: Trainer, task: Task) -> None:
    """Say what data were taken for, and what of pretrained weights was taken."""
    if trainer.world.is_main:
        for note in [*(f"data: {one}" for one in task.notes), *getattr(task.model, "adapted", [])]:
            print(note, file=sys.stderr)


@contextmanager
def _no_trace_of_a_false_start(trainer: Trainer, folder: Path, resume: bool) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if not resume and not trainer.progress.step and trainer.world.is_main:
            from aibig.training import run_folder

            run_folder.discard(folder)
        raise


def build(config: Config, callbacks: Sequence[Callback] = ()) -> tuple[Trainer, Task]:
    """The trainer and the task that a checked config describes, before anything is trained or written."""
    from aibig.training.trainer import Trainer

    with config.blaming("trainer"):
        trainer = Trainer(
            config.create("optimizer"),
            config.create("schedule"),
            config.values["seed"],
            callbacks,
            **config.section("trainer"),
        )
    with config.blaming("task"):
        kind: Any = load(SECTIONS["task"].entry(config.named("task")).target)
        task: Task = kind.from_config(config, trainer.context)
        trainer.check(task)
    with config.blaming("optimizer"):
        try:
            trainer.make_optimizer(task.model)
        except ValueError as error:
            raise UserError(str(error)) from None
    return trainer, task


def export(task: Task, trainer: Trainer, result: Result, weights: dict[str, Any], folder: Path) -> None:
    """Write the model, alone fit for use, and then result.json, the sign that the run is complete."""
    from aibig.inference.model_folder import save_model
    from aibig.training.environment import environment
    from aibig.training.logbook import plain_number
    from aibig.training.run_folder import write_result

    save_model(task.model, folder / "model", task.inference_facts(), weights)
    progress = result.progress
    unit, count = next(iter(progress.counts.items()), ("steps", progress.step))
    write_result(
        folder,
        {
            "metrics": {name: plain_number(value) for name, value in result.metrics.items()},
            "steps": progress.step,
            **progress.counts,
            "skipped_steps": progress.skipped,
            "best_step": progress.best_step,
            "stopped_by": result.stopped_by,
            "train_seconds": progress.train_seconds,
            "throughput": {"value": count / max(progress.train_seconds, 1e-9), "unit": f"{unit}/s"},
            "parameters": sum(one.numel() for one in task.model.parameters()),
            "device": str(trainer.device),
            "precision": trainer.precision,
            "environment": environment(trainer.device),
        },
    )


def main(words: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 2 for a mistake of the user's, 130 if interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m aibig.train",
        description="Train a model from a config file.",
        epilog="example: python -m aibig.train --config nets/digits optimizer.lr=3e-3 --seeds 5",
    )
    add_arguments(parser)
    return guarded(run, parse(parser, words))


def parse(parser: argparse.ArgumentParser, words: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; overrides may stand anywhere among the options, which argparse alone does not allow."""
    chosen, others = parser.parse_known_args(words)
    strange = [word for word in others if "=" not in word or word.startswith("-")]
    if others and (strange or "overrides" not in chosen):
        parser.error(f"unrecognized arguments: {' '.join(strange or others)}")
    if others:
        chosen.overrides = [*chosen.overrides, *others]
    return chosen


def guarded(command: Callable[[argparse.Namespace], int], chosen: argparse.Namespace) -> int:
    """The exit code of `command`; 2, and a line for each on standard error, for what the user can mend."""
    try:
        return command(chosen)
    except UserError as error:
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"{error.filename or 'system'}: {error.strerror or error}", file=sys.stderr)
    return 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--config", metavar="FILE", help="a YAML file, or a shipped config's name (nets/digits)")
    parser.add_argument("--out", metavar="DIR", help="folder of the run (default: the next number under runs/)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, or the newest of --config")
    parser.add_argument("--seeds", type=int, metavar="N", help="train with N seeds; print their mean and spread")
    parser.add_argument("--check", action="store_true", help="only try it: estimate time, memory and disk")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("overrides", nargs="*", metavar="section.setting=value", help="settings that go first")


def run(chosen: argparse.Namespace) -> int:
    """Train what the arguments say. Returns the exit code."""
    source, seeds, overrides = chosen.config, chosen.seeds, parse_overrides(chosen.overrides)
    if chosen.check and (chosen.resume or chosen.out or seeds):
        raise UserError("command line: --check trains and writes nothing; leave out --resume, --out and --seeds")
    if chosen.resume and chosen.out:
        from aibig.repeat import begun_with

        before = begun_with(chosen.out)
        if before is not None:
            source, seeds = source or before[0], seeds or before[1]
    if source is None:
        if not (chosen.resume and chosen.out):
            wanted = "--resume needs --out DIR or --config FILE" if chosen.resume else "--config FILE is missing"
            raise UserError(f"command line: {wanted} (try --config nets/digits)")
        source = _config_of(chosen.out, chosen.resume)
    if chosen.check:
        from aibig.dry_run import check, in_lines

        found = check(source, overrides)
        say(json.dumps(found) if chosen.json else in_lines(found))
        return 0
    if seeds is not None:
        from aibig.repeat import train_seeds

        say_seed = (lambda line: None) if chosen.json else say
        settings: dict[str, Any] = {"seeds": seeds, "out": chosen.out, "resume": chosen.resume, "report": say_seed}
        return report_seeds(train_seeds(source, overrides, **settings), chosen.json)
    told = [] if chosen.json else [Told()]
    return report(train(source, overrides, out=chosen.out, resume=chosen.resume, callbacks=told), chosen.json)


def report(run: Run, as_json: bool = False) -> int:
    """Say what came of a run. Returns the exit code."""
    if run.result is None:
        return report_interrupted(run.path, as_json)
    result = run.result
    if as_json:
        say(json.dumps({"path": str(run.path), **result}))
    else:
        throughput = f"{result['throughput']['value']:,.0f} {result['throughput']['unit']}"
        done = f"{result['steps']:,} steps in {result['train_seconds']:.1f} s of training ({throughput})"
        say(f"test: {in_words(result['metrics'])}")
        say(f"{done}, ended by {result.get('stopped_by', 'its limit')}; run: {run.path}")
    if None not in result["metrics"].values():
        return 0
    if is_main_rank():
        words = "the model diverged: its outputs are not finite; lower optimizer.lr or set trainer.clip_norm"
        print(words, file=sys.stderr)
    return 2


def report_seeds(runs: Repeated, as_json: bool = False) -> int:
    """Say what came of runs with several seeds. Returns the exit code: 2 if none ended well."""
    if not runs.is_complete:
        return report_interrupted(runs.path, as_json)
    if as_json:
        say(json.dumps({"path": str(runs.path), **runs.to_dict()}))
    else:
        for name, of in runs.metrics.items():
            spread = "" if of["standard_deviation"] is None else f" +- {of['standard_deviation']:.2g}"
            say(f"{name:26} {of['mean']:.4g}{spread}  ({of['lowest']:.4g} to {of['highest']:.4g})")
        lost = f"; diverged: {', '.join(map(str, runs.diverged))}" if runs.diverged else ""
        say(f"mean +- standard deviation of {len(runs.values)} seeds{lost}; runs: {runs.path}")
    return 0 if runs.values else 2


def report_interrupted(folder: Path, as_json: bool) -> int:
    """Say how to go on with what the user stopped. Returns the exit code."""
    if as_json:
        say(json.dumps({"path": str(folder), "stopped_by": "interrupted"}))
    else:
        again = f"python -m aibig.train --resume --out {folder}"
        say(f"interrupted; everything so far is kept; go on with: {again}")
    return 130


def in_words(metrics: Mapping[str, float | None]) -> str:
    """The first metrics in a line; result.json and `aibig evaluate` have all."""
    shown = {name: "not finite" if value is None else f"{value:.4g}" for name, value in metrics.items()}
    some = [f"{name} {value}" for name, value in shown.items()][:METRICS_IN_A_LINE]
    return ", ".join(some) + (", ..." if len(shown) > len(some) else "") or "none"


def say(text: str) -> None:
    """Print on standard output, once however many ranks there are."""
    if is_main_rank():
        print(text, flush=True)


def is_main_rank() -> bool:
    """Whether this process is the one that writes and reports; torchrun numbers them."""
    return os.environ.get("RANK", "0") == "0"


class _Callable(types.ModuleType):
    """Lets `aibig.train(...)` be the function and `aibig.train` the module at once."""

    __call__ = staticmethod(train)


sys.modules[__name__].__class__ = _Callable

if __name__ == "__main__":
    sys.exit(main())
