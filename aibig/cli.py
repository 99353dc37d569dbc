"""The command line: one function a command. What each does stands elsewhere; nothing heavy is imported before."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aibig.config.describe import all_names
from aibig.config.describe import describe as find_settings
from aibig.config.registry import list_models as all_models
from aibig.config.registry import models
from aibig.config.run_config import parse_overrides
from aibig.console import finite, say, show_metrics, show_rows, show_table, stream_out
from aibig.errors import UserError
from aibig.ranks import is_main_rank
from aibig.training.callbacks import Callback

if TYPE_CHECKING:
    from aibig.runs.seeds import Repeated
    from aibig.training.checkpoints.run_folder import Run
    from aibig.training.trainer import Trainer


def main(words: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run a command. Returns the exit code: 0, or 2 for a mistake of the user's, said in a line on standard error.

    Args:
        words: the command and its arguments, by default those of the process.
        prog: what the one command of `words` is called in its help, by default "aibig COMMAND".
    """
    parser = argparse.ArgumentParser(prog="aibig", description="Train and use models: nets, DQN, language models.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, add in COMMANDS.items():
        example = f"example: aibig {name} {EXAMPLES[name]}"
        add(commands.add_parser(name, prog=prog, help=add.__doc__, description=add.__doc__, epilog=example))
    chosen = parse(parser, words)
    try:
        code = guarded(chosen.run, chosen)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


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


def train(parser: argparse.ArgumentParser) -> None:
    """train a model from a config file"""
    parser.add_argument("--config", metavar="FILE", help="a YAML file, or a shipped config's name (nets/digits)")
    parser.add_argument("--out", metavar="DIR", help="folder of the run (default: the next number under runs/)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, or the newest of --config")
    parser.add_argument("--seeds", type=int, metavar="N", help="train with N seeds; print their mean and spread")
    parser.add_argument("--check", action="store_true", help="only try it: estimate time, memory and disk")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("overrides", nargs="*", metavar="section.setting=value", help="settings that go first")
    parser.set_defaults(run=run_training)


def run_training(chosen: argparse.Namespace) -> int:
    """Train what the arguments say. Returns the exit code."""
    source, seeds, overrides = chosen.config, chosen.seeds, parse_overrides(chosen.overrides)
    if chosen.check and (chosen.resume or chosen.out or seeds):
        raise UserError("command line: --check trains and writes nothing; leave out --resume, --out and --seeds")
    if chosen.resume and chosen.out:
        from aibig.runs.seeds import begun_with

        before = begun_with(chosen.out)
        if before is not None:
            source, seeds = source or before[0], seeds or before[1]
    from aibig.runs.train import config_of_run
    from aibig.runs.train import train as train_run

    if source is None:
        if not (chosen.resume and chosen.out):
            wanted = "--resume needs --out DIR or --config FILE" if chosen.resume else "--config FILE is missing"
            raise UserError(f"command line: {wanted} (try --config nets/digits)")
        source = config_of_run(chosen.out, chosen.resume)
    if chosen.check:
        from aibig.runs.dry_run import check, in_lines

        found = check(source, overrides)
        say(json.dumps(found) if chosen.json else in_lines(found))
        return 0
    if seeds is not None:
        from aibig.runs.seeds import train_seeds

        say_seed = (lambda line: None) if chosen.json else say
        settings: dict[str, Any] = {"seeds": seeds, "out": chosen.out, "resume": chosen.resume, "report": say_seed}
        return report_seeds(train_seeds(source, overrides, **settings), chosen.json)
    told = [] if chosen.json else [ProgressLines()]
    return report(train_run(source, overrides, out=chosen.out, resume=chosen.resume, callbacks=told), chosen.json)


class ProgressLines(Callback):
    """Says on standard error where a run is and, if nobody watches its bar, what its evaluations give."""

    def on_begin(self, trainer: Trainer) -> None:
        """Its folder: what --resume takes, should the process be killed."""
        self._trainer = trainer
        print(f"run: {trainer.run_folder}", file=sys.stderr)

    def on_evaluation(self, line: Mapping[str, Any]) -> None:
        """A line for each but the test, which `report` says."""
        if line["kind"] != "test" and not sys.stderr.isatty():
            from aibig.metrics.functions import metrics_line

            beside = {"kind", *self._trainer.progress.position()}
            metrics = {name: value for name, value in line.items() if name not in beside}
            print(f"step {line['step']:,}: {line['kind']} {metrics_line(metrics)}", file=sys.stderr, flush=True)


def report(run: Run, as_json: bool = False) -> int:
    """Say what came of a run. Returns the exit code."""
    if run.result is None:
        return report_interrupted(run.path, as_json)
    from aibig.metrics.functions import metrics_line

    result = run.result
    if as_json:
        say(json.dumps({"path": str(run.path), **result}))
    else:
        throughput = f"{result['throughput']['value']:,.0f} {result['throughput']['unit']}"
        done = f"{result['steps']:,} steps in {result['train_seconds']:.1f} s of training ({throughput})"
        say(f"test: {metrics_line(result['metrics'])}")
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


def find_lr(parser: argparse.ArgumentParser) -> None:
    """find a learning rate: train a little while it rises, and see where the loss falls fastest"""

    def run(chosen: argparse.Namespace) -> int:
        from aibig.runs.find_lr import find_lr as find

        settings = {"low": chosen.low, "high": chosen.high, "steps": chosen.steps, "picture": chosen.out}
        found = find(chosen.config, parse_overrides(chosen.overrides), **settings)
        if chosen.json:
            say(json.dumps(dataclasses.asdict(found)))
        else:
            begin = "none" if found.suggestion is None else f"optimizer.lr={found.suggestion:g}"
            say(f"suggestion: {begin}; {found.note}" + (f"; picture: {chosen.out}" if chosen.out else ""))
        return 0

    parser.add_argument("--config", metavar="FILE", required=True, help="a YAML file, or a shipped config's name")
    parser.add_argument("--low", type=float, default=1e-6, help="the first rate (1e-6)")
    parser.add_argument("--high", type=float, default=1.0, help="the last rate (1)")
    parser.add_argument("--steps", type=positive, default=100, help="updates from one to the other (100)")
    parser.add_argument("--out", metavar="PICTURE", help="draw loss over rate into a .svg or .png file")
    parser.add_argument("--json", action="store_true", help="one JSON object, with every rate and loss")
    parser.add_argument("overrides", nargs="*", metavar="section.setting=value", help="settings that go first")
    parser.set_defaults(run=run)


def list_models(parser: argparse.ArgumentParser) -> None:
    """list the models by name"""

    def run(chosen: argparse.Namespace) -> int:
        names = all_models(chosen.pattern, family=chosen.family)
        if not names:
            models.entry(chosen.pattern)  # no pattern that matches: say what is near
        if chosen.json:
            rows = [models.entry(name) for name in names]
            print(json.dumps([{"name": one.name, "family": one.family, "summary": one.summary} for one in rows]))
            return 0
        width = max(len(name) for name in names)
        for name in names:
            entry = models.entry(name)
            count = f"{parameter_count(name):>12}  " if chosen.parameters else ""
            print(f"{name:{width}}  {entry.family:8}  {count}{entry.summary}")
        return 0

    parser.add_argument("pattern", nargs="?", default="*", help="with * and ?, for example 'l*'")
    parser.add_argument("--family", help="nets, dqn or language")
    parser.add_argument("--parameters", action="store_true", help="count parameters at default settings")
    parser.add_argument("--json", action="store_true", help="a JSON list of name, family and summary")
    parser.set_defaults(run=run)


def describe(parser: argparse.ArgumentParser) -> None:
    """explain the settings of a model, a dataset, an environment, a task, ..., or the sections trainer and finetune"""

    def run(chosen: argparse.Namespace) -> int:
        if chosen.name is None:
            listed = all_names()
            lines = [f"{kind}: {', '.join(names)}" for kind, names in listed.items()]
            print(json.dumps(listed) if chosen.json else "\n".join(lines))
            return 0
        found = find_settings(chosen.name)
        if chosen.json:
            print(json.dumps({what: one.settings for what, one in found.items()}))
            return 0
        for what, described in found.items():
            head = [what, "default", "takes"]
            rows = [[name, one["default"], one["takes"]] for name, one in described.settings.items()]
            show_table(head, rows or [["", "", ""]])
            if described.about:
                print(f"{described.about}\n")
        return 0

    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="what a config would name: csv, resnet18, CartPole-v1; none lists them"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def evaluate(parser: argparse.ArgumentParser) -> None:
    """measure a run's model, on a part of its data or on others, and write its page"""

    def run(chosen: argparse.Namespace) -> int:
        from aibig.runs.evaluate import evaluate as measure

        found = measure(
            chosen.path, chosen.data, split=chosen.split, bootstrap=chosen.bootstrap, report=page_wanted(chosen)
        )
        page = None if found.report is None else str(found.report)
        if chosen.json:
            intervals = {name: ends for name, ends in found.intervals.items() if all(map(math.isfinite, ends))}
            rest = {"intervals": intervals, "per_class": found.per_class, "note": found.note}
            print(
                json.dumps({"metrics": finite(found), **{key: one for key, one in rest.items() if one}, "report": page})
            )
            return 0
        if found.note:
            print(found.note)
        show_metrics(found, found.intervals)
        show_table(["class", "precision", "recall", "f1", "rows"], [list(row.values()) for row in found.per_class])
        if page is not None:
            print(f"page: {page}")
        return 0

    parser.add_argument("path", metavar="RUN", help="a run's folder; with DATA also a model's folder")
    parser.add_argument("data", metavar="DATA", nargs="?", help="a file or folder to measure on instead of the run's")
    parser.add_argument("--split", default="test", choices=["validation", "test"], help="which part of the run's data")
    parser.add_argument("--bootstrap", action="store_true", help="95 %% intervals, from 1,000 resamples")
    add_page_arguments(parser, "report.html in RUN")
    parser.set_defaults(run=run)


def compare(parser: argparse.ArgumentParser) -> None:
    """set runs side by side, also such that have not ended, and write a page of their curves"""

    def run(chosen: argparse.Namespace) -> int:
        from aibig.runs.compare import compare as confront

        found = confront(*chosen.paths, report=page_wanted(chosen))
        page = None if found.report is None else str(found.report)
        if chosen.json:
            print(json.dumps({"runs": found.runs, "report": page}))
            return 0
        for title, rows in found.tables().items():
            show_table([title, *(one["name"] for one in found.runs)], rows)
        if page is not None:
            print(f"page: {page}")
        return 0

    parser.add_argument("paths", metavar="RUN", nargs="+", help="runs' folders")
    add_page_arguments(parser, "compare.html")
    parser.set_defaults(run=run)


def predict(parser: argparse.ArgumentParser) -> None:
    """predict from a CSV or .npy file, pictures, a sentence or a file of them, or the next token of a text"""

    def run(chosen: argparse.Namespace) -> int:
        from aibig.inference.predictor import predict as foretell

        rows = foretell(chosen.path, chosen.input)
        show_rows(rows, chosen.json)
        if rows.note:
            print(rows.note, file=sys.stderr)
        return 0

    parser.add_argument("path", metavar="RUN", help="a run's folder, or its model folder")
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="a .csv or .npy file; a picture, or a folder of them; a sentence, or a .txt, .tsv or .csv file of them; "
        "for a language model a text",
    )
    parser.add_argument("--json", action="store_true", help="a JSON list instead of CSV")
    parser.set_defaults(run=run)


def generate(parser: argparse.ArgumentParser) -> None:
    """write on from a prompt, or from several at once"""

    def run(chosen: argparse.Namespace) -> int:
        from aibig.files import read_utf8
        from aibig.inference.predictor import load_draft, load_writer

        prompts = [*(chosen.prompt or []), *map(read_utf8, chosen.prompt_file or [])]
        if not prompts:
            raise UserError("command line: --prompt TEXT or --prompt-file FILE is missing")
        writer = load_writer(chosen.path, chosen.weights)
        settings = {**writing_settings(chosen), "stop": chosen.stop or (), "draft": load_draft(chosen.draft)}
        if len(prompts) == 1 and not chosen.json:
            stream_out(prompts[0], writer.stream(prompts[0], **settings), writer)
            return 0
        texts = writer.generate(prompts, **settings)
        if writer.note:
            print(writer.note, file=sys.stderr)
        if chosen.json:
            made = [{"prompt": prompt, "text": text} for prompt, text in zip(prompts, texts, strict=True)]
            print(json.dumps(made[0] if len(made) == 1 else made))
            return 0
        print("\n\n".join(prompt + text for prompt, text in zip(prompts, texts, strict=True)))
        return 0

    parser.add_argument("path", metavar="RUN", help="a run's folder, or its model folder")
    parser.add_argument("--prompt", action="append", metavar="TEXT", help="may be given several times")
    parser.add_argument("--prompt-file", action="append", metavar="FILE", help="a prompt from a UTF-8 text file")
    parser.add_argument("--stop", action="append", metavar="TEXT", help="end before this text; several times for more")
    parser.add_argument("--draft", metavar="RUN", help="a smaller model of the same vocabulary, to be faster")
    add_writing_arguments(parser)
    parser.add_argument("--json", action="store_true", help="JSON with prompt and text, when all is made")
    parser.set_defaults(run=run)


def chat(parser: argparse.ArgumentParser) -> None:
    """talk to a language model; /reset begins anew, /quit ends

    A model that was not trained on conversations writes on as a text with two speakers would go on.
    """

    def run(chosen: argparse.Namespace) -> int:
        from aibig.inference.chat import Chat
        from aibig.inference.predictor import load_writer

        names = {"user": chosen.user, "assistant": chosen.assistant, "system": chosen.system}
        talk = Chat(load_writer(chosen.path, chosen.weights), **names, **writing_settings(chosen))
        for message in messages(chosen.user):
            if message == "/reset":
                talk.reset()
                continue
            try:
                stream_out(f"{chosen.assistant}:", talk.reply(message), talk.generator)
            except KeyboardInterrupt:  # ends the answer, not the conversation
                print()
            except UserError as error:
                print(error, file=sys.stderr)
        return 0

    parser.add_argument("path", metavar="RUN", help="a run's folder, or its model folder")
    parser.add_argument("--user", default="User", metavar="NAME", help="how your turns begin")
    parser.add_argument("--assistant", default="Assistant", metavar="NAME", help="how the model's turns begin")
    parser.add_argument("--system", default="", metavar="TEXT", help="what stands before the first turn")
    add_writing_arguments(parser)
    parser.set_defaults(run=run)


def messages(user: str) -> Iterator[str]:
    """What the user says, line by line, until /quit or the end of the input."""
    asking = f"{user}: " if sys.stdin.isatty() else ""
    while True:
        try:
            message = input(asking).strip()
        except EOFError:
            return
        if message == "/quit":
            return
        if message:
            yield message


def add_writing_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a command that writes texts."""
    parser.add_argument("--max-tokens", type=int, default=200)
    parser.add_argument("--temperature", type=float, default=1.0, help="0 takes the likeliest token each time")
    parser.add_argument("--top-k", type=int, help="draw from so many likeliest tokens only")
    parser.add_argument("--top-p", type=float, default=1.0, help="from the fewest that together are so probable")
    parser.add_argument("--min-p", type=float, default=0.0, help="from those so probable beside the likeliest")
    parser.add_argument("--repetition-penalty", type=float, default=1.0, help="above 1: what was seen gets rarer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", metavar="int8|float16", help="smaller weights, for a CPU")


def writing_settings(chosen: argparse.Namespace) -> dict[str, Any]:
    """What `add_writing_arguments` asked for, without the weights."""
    names = ("max_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
    return {name: getattr(chosen, name) for name in names}


def play(parser: argparse.ArgumentParser) -> None:
    """let an agent play in its environment"""

    def run(chosen: argparse.Namespace) -> int:
        from aibig.inference.predictor import film
        from aibig.inference.predictor import play as perform
        from aibig.metrics.outcomes import bootstrap

        for file in filter(None, (chosen.gif, chosen.video)):
            if not file.parent.is_dir():
                raise UserError(f"{file}: there is no folder {file.parent}; make it first")
        if chosen.gif or chosen.video:
            from aibig.report import figures

            shown = film(chosen.path, seed=chosen.seed, whole=bool(chosen.video))
            if chosen.gif:
                chosen.gif.write_bytes(figures.gif(shown.frames, shown.seconds))
            if chosen.video:
                figures.video(shown.frames, shown.seconds, str(chosen.video))
        played = perform(chosen.path, episodes=chosen.episodes, seed=chosen.seed, render=chosen.render)
        intervals = bootstrap(played) if chosen.episodes > 1 else {}
        if chosen.json:
            each = {"returns": played.returns.tolist(), "lengths": played.lengths.tolist()}
            print(json.dumps({**played.metrics(), "intervals": intervals, **each}))
            return 0
        for number, (value, length) in enumerate(zip(played.returns, played.lengths, strict=True)):
            print(f"episode {number}: return {value:g}, {length} env steps")
        show_metrics(played.metrics(), intervals)
        return 0

    parser.add_argument("path", metavar="RUN", help="a run's folder, or its model folder")
    parser.add_argument("--episodes", type=positive, default=10, help="how many (10)")
    parser.add_argument("--seed", type=natural, default=0, help="of the first episode; each one has the next")
    parser.add_argument("--render", metavar="MODE", help="gymnasium's render_mode, such as human")
    parser.add_argument("--gif", metavar="FILE", type=Path, help="write the first episode as an animated picture")
    parser.add_argument(
        "--video", metavar="FILE", type=Path, help="write the first episode as a video (needs aibig[video])"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


COMMANDS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "train": train,
    "find-lr": find_lr,
    "models": list_models,
    "describe": describe,
    "evaluate": evaluate,
    "compare": compare,
    "predict": predict,
    "generate": generate,
    "chat": chat,
    "play": play,
}

EXAMPLES = {
    "train": "--config nets/digits optimizer.lr=3e-3 --seeds 5",
    "find-lr": "--config nets/digits --out lr.svg",
    "models": "'resnet*' --parameters",
    "describe": "csv",
    "evaluate": "runs/digits-0001 --bootstrap",
    "compare": "runs/digits-0001 runs/digits-0002",
    "predict": "runs/digits-0001 table.csv",
    "generate": 'runs/python_docs_lstm-0001 --prompt "The import statement" --temperature 0.8',
    "chat": "runs/python_docs_transformer-0001 --temperature 0.7 --max-tokens 300",
    "play": "runs/cartpole-0001 --episodes 5 --gif cartpole.gif",
}


def add_page_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """The options of a command that writes a page."""
    pages = parser.add_mutually_exclusive_group()
    pages.add_argument("--report", metavar="FILE", help=f"where the page goes (default: {default})")
    pages.add_argument("--no-report", action="store_true", help="write no page")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def page_wanted(chosen: argparse.Namespace) -> bool | str:
    """What `report` is to be by these options."""
    return chosen.report or not chosen.no_report


def parameter_count(name: str) -> str:
    """How many parameters a model has at its defaults, without making any; "-" if a setting has no default."""
    from aibig.config.settings import REQUIRED
    from aibig.layers.meta import ParametersOnMeta

    if any(one.default is REQUIRED for one in models.settings(name).values()):
        return "-"
    with ParametersOnMeta():
        return f"{sum(one.numel() for one in models.create(name).parameters()):,}"


def positive(word: str) -> int:
    """A whole number of at least 1, for argparse."""
    value = int(word)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def natural(word: str) -> int:
    """A whole number of at least 0, for argparse."""
    value = int(word)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, not {value}")
    return value


if __name__ == "__main__":
    sys.exit(main())
