"""The command line: one function a command. What each does stands elsewhere; nothing heavy is imported before."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aibig.errors import UserError
from aibig.registry import list_models as all_models
from aibig.registry import models
from aibig.train import add_arguments, guarded, parse, run


def main(words: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit code: 0, or 2 for a mistake of the user's, said in a line on standard error."""
    parser = argparse.ArgumentParser(prog="aibig", description="Train and use models: nets, DQN, language models.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, add in COMMANDS.items():
        add(commands.add_parser(name, help=add.__doc__, description=add.__doc__))
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


def list_models(parser: argparse.ArgumentParser) -> None:
    """list the models by name"""

    def run(chosen: argparse.Namespace) -> int:
        names = all_models(chosen.pattern, family=chosen.family)
        if not names:
            models.entry(chosen.pattern)  # no pattern that matches: say what is near
        width = max(len(name) for name in names)
        for name in names:
            entry = models.entry(name)
            count = f"{parameter_count(name):>12}  " if chosen.parameters else ""
            print(f"{name:{width}}  {entry.family:8}  {count}{entry.summary}")
        return 0

    parser.add_argument("pattern", nargs="?", default="*", help="with * and ?, for example 'l*'")
    parser.add_argument("--family", help="nets, dqn or language")
    parser.add_argument("--parameters", action="store_true", help="count parameters at default settings")
    parser.set_defaults(run=run)


def evaluate(parser: argparse.ArgumentParser) -> None:
    """measure a run's model again, on a part of its data"""

    def run(chosen: argparse.Namespace) -> int:
        from aibig.evaluation import evaluate as measure

        show(measure(chosen.path, split=chosen.split), chosen.json)
        return 0

    parser.add_argument("path", metavar="RUN", help="a run's folder")
    parser.add_argument("--split", default="test", choices=["validation", "test"])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def predict(parser: argparse.ArgumentParser) -> None:
    """predict from a CSV or .npy file, a picture or a folder of them, or the next token of a text"""

    def run(chosen: argparse.Namespace) -> int:
        from aibig.inference.predictor import load_predictor

        predictor = load_predictor(chosen.path)
        if hasattr(predictor, "next_tokens"):
            tokens = predictor.next_tokens(chosen.input)
            rows: Iterator[dict[str, Any]] = ({"token": token, "probability": p} for token, p in tokens)
        elif hasattr(predictor, "predict_file"):
            rows = predictor.predict_file(chosen.input)
        else:
            raise UserError(f"{chosen.path}: an agent acts in its environment; use: aibig play {chosen.path}")
        show_rows(rows, chosen.json)
        if note := getattr(predictor, "note", ""):
            print(note, file=sys.stderr)
        return 0

    parser.add_argument("path", metavar="RUN", help="a run's folder, or its model folder")
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="a .csv or .npy file, a picture, a folder of pictures; for a language model a text",
    )
    parser.add_argument("--json", action="store_true", help="a JSON list instead of CSV")
    parser.set_defaults(run=run)


def generate(parser: argparse.ArgumentParser) -> None:
    """write on from a prompt"""

    def run(chosen: argparse.Namespace) -> int:
        from aibig.inference.predictor import load_predictor

        generator = load_predictor(chosen.path, "text")
        pieces = generator.stream(
            chosen.prompt,
            max_tokens=chosen.max_tokens,
            temperature=chosen.temperature,
            top_k=chosen.top_k,
            seed=chosen.seed,
        )
        first = next(pieces, "")  # what is wrong with a prompt shows before anything is printed
        print(chosen.prompt + first, end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print()
        return 0

    parser.add_argument("path", metavar="RUN", help="a run's folder, or its model folder")
    parser.add_argument("--prompt", required=True, metavar="TEXT")
    parser.add_argument("--max-tokens", type=int, default=200)
    parser.add_argument("--temperature", type=float, default=1.0, help="0 takes the likeliest token each time")
    parser.add_argument("--top-k", type=int, help="draw from so many likeliest tokens only")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(run=run)


def play(parser: argparse.ArgumentParser) -> None:
    """let an agent play in its environment"""

    def run(chosen: argparse.Namespace) -> int:
        from aibig.inference.predictor import load_predictor
        from aibig.metrics import return_metrics

        player = load_predictor(chosen.path, "player")
        returns, lengths = player.play(episodes=chosen.episodes, seed=chosen.seed, render=chosen.render)
        if not chosen.json:
            for number, (value, length) in enumerate(zip(returns, lengths, strict=True)):
                print(f"episode {number}: return {value:g}, {length} env steps")
        show(return_metrics(returns, lengths), chosen.json)
        return 0

    parser.add_argument("path", metavar="RUN", help="a run's folder, or its model folder")
    parser.add_argument("--episodes", type=positive, default=10)
    parser.add_argument("--seed", type=natural, default=0, help="of the first episode; each one has the next")
    parser.add_argument("--render", metavar="MODE", help="gymnasium's render_mode, such as human")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


COMMANDS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "train": train,
    "models": list_models,
    "evaluate": evaluate,
    "predict": predict,
    "generate": generate,
    "play": play,
}


def show(metrics: dict[str, float], as_json: bool) -> None:
    """Print metrics: a line each, or one JSON object."""
    if as_json:
        print(json.dumps(metrics))
        return
    for name, value in metrics.items():
        print(f"{name:14} {value:.6g}")


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
