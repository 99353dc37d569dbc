"""The command line: one function a command. What each does stands elsewhere; nothing heavy is imported before."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aibig.config import all_names, parse_overrides
from aibig.config import describe as find_settings
from aibig.errors import UserError
from aibig.registry import list_models as all_models
from aibig.registry import models
from aibig.train import add_arguments, guarded, parse, run, say


def main(words: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit code: 0, or 2 for a mistake of the user's, said in a line on standard error."""
    parser = argparse.ArgumentParser(prog="aibig", description="Train and use models: nets, DQN, language models.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, add in COMMANDS.items():
        example = f"example: aibig {name} {EXAMPLES[name]}"
        add(commands.add_parser(name, help=add.__doc__, description=add.__doc__, epilog=example))
    chosen = parse(parser, words)
    try:
        code = guarded(chosen.run, chosen)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def train(parser: argparse.ArgumentParser) -> None:
    """train a model from a config file"""
    add_arguments(parser)
    parser.set_defaults(run=run)


def find_lr(parser: argparse.ArgumentParser) -> None:
    """find a learning rate: train a little while it rises, and see where the loss falls fastest"""

    def run(chosen: argparse.Namespace) -> int:
        from aibig.learning_rate import find_lr as find

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
        from aibig.evaluation import evaluate as measure

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
        from aibig.comparison import compare as confront

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
        from aibig.data.files import read_utf8
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


def stream_out(before: str, pieces: Iterator[str], writer: Any) -> None:
    """Print pieces of text as they come. What is wrong with a prompt shows before anything is printed."""
    first = next(pieces, "")
    if writer.note:
        print(writer.note, file=sys.stderr)
    print(before + first, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


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
        from aibig.outcomes import bootstrap

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


def show_metrics(metrics: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]) -> None:
    """Print metrics, a line each, with their intervals if there are any."""
    head = ["metric", "value", *(["95 % interval"] if intervals else [])]
    show_table(head, [[name, value, *interval(intervals.get(name))] for name, value in metrics.items()])


def show_rows(rows: Iterator[dict[str, Any]], as_json: bool) -> None:
    """Print rows as they come: CSV with a header, or a JSON list. What is wrong with the first shows before any."""
    first = next(rows)
    if as_json:
        print("[" + json.dumps(first), end="")
        for row in rows:
            print(",\n " + json.dumps(row), end="")
        print("]")
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(first)
    writer.writerow(first.values())
    writer.writerows(row.values() for row in rows)


def show_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows under their header, each column as wide as it must be, and a blank line; nothing without rows."""
    if not rows:
        return
    cells = [header, *([cell_text(one) for one in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        print("  ".join(f"{one:{width}}" for one, width in zip(row, widths, strict=True)).rstrip())
    print()


def cell_text(value: Any) -> str:
    """A value in a table of the terminal: six digits of a number, nothing for None."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else f"{value:,}" if type(value) is int else str(value)


def interval(ends: tuple[float, float] | None) -> list[str]:
    """The cell of an interval; none where there is none."""
    return [] if ends is None else [f"{ends[0]:.6g} to {ends[1]:.6g}"]


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Metrics as JSON has them: null for what is not finite."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


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
    from aibig.layers.meta import ParametersOnMeta
    from aibig.settings import REQUIRED

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
