"""The command line: one function a command. What each does stands elsewhere, and is imported when it runs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from aibig.config.describe import all_names, describe
from aibig.config.registry import list_models, models
from aibig.config.run_config import parse_overrides
from aibig.config.settings import REQUIRED
from aibig.console import finite, print_metrics, print_once, print_rows, print_settings, print_stream, print_table
from aibig.errors import UserError


def main(words: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run a command.

    Args:
        words: the command and its arguments, by default those of the process.
        prog: what the command is called in its help, by default "aibig COMMAND".

    Returns:
        The exit code: 0; 2 for a mistake of the user's, named in a line on standard error; 130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog="aibig", description="Train and use models: nets, DQN, language models.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, add_arguments in COMMANDS.items():
        about, example = add_arguments.__doc__, f"example: aibig {name} {EXAMPLES[name]}"
        add_arguments(commands.add_parser(name, prog=prog, help=about, description=about, epilog=example))
    args = _parse(parser, words)
    try:
        code = _run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parse(parser: argparse.ArgumentParser, words: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; overrides may stand anywhere among the options, which argparse alone does not allow."""
    args, extra = parser.parse_known_args(words)
    unknown = [word for word in extra if "=" not in word or word.startswith("-")]
    if extra and (unknown or "overrides" not in args):
        parser.error(f"unrecognized arguments: {' '.join(unknown or extra)}")
    if extra:
        args.overrides = [*args.overrides, *extra]
    return args


def _run(args: argparse.Namespace) -> int:
    """The exit code of the command; 2, and a line for each on standard error, for what the user can mend."""
    try:
        code: int = args.run(args)
        return code
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


def _train(parser: argparse.ArgumentParser) -> None:
    """train a model from a config file"""

    def run(args: argparse.Namespace) -> int:
        from aibig.runs.output import ProgressLines, print_result, print_seed_results
        from aibig.runs.seeds import find_seed_runs, train_seeds
        from aibig.runs.train import config_of_run, train

        config, seeds, overrides = args.config, args.seeds, parse_overrides(args.overrides)
        if args.check and (args.resume or args.out or seeds):
            raise UserError("command line: --check trains and writes nothing; leave out --resume, --out and --seeds")
        seed_runs = find_seed_runs(args.out) if args.resume and args.out else None
        if seed_runs is not None:
            config, seeds = config or seed_runs[0], seeds or seed_runs[1]
        if config is None:
            if not (args.resume and args.out):
                mistake = "--resume needs --out DIR or --config FILE" if args.resume else "--config FILE is missing"
                raise UserError(f"command line: {mistake} (try --config nets/digits)")
            config = config_of_run(args.out, args.resume)
        if args.check:
            from aibig.runs.dry_run import check, format_estimate

            estimate = check(config, overrides)
            print_once(json.dumps(estimate) if args.json else format_estimate(estimate))
            return 0
        options: dict[str, Any] = {"out": args.out, "resume": args.resume}
        if seeds is not None:
            options |= {"seeds": seeds} if args.json else {"seeds": seeds, "on_seed_end": print_once}
            return print_seed_results(train_seeds(config, overrides, **options), args.json)
        callbacks = [] if args.json else [ProgressLines()]
        return print_result(train(config, overrides, **options, callbacks=callbacks), args.json)

    parser.add_argument("--config", metavar="FILE", help="a YAML file, or a shipped config's name (nets/digits)")
    parser.add_argument("--out", metavar="DIR", help="folder of the run (default: the next number under runs/)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, or the newest of --config")
    parser.add_argument("--seeds", type=int, metavar="N", help="train with N seeds; print their mean and spread")
    parser.add_argument("--check", action="store_true", help="only try it: estimate time, memory and disk")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    _add_overrides(parser)
    parser.set_defaults(run=run)


def _find_lr(parser: argparse.ArgumentParser) -> None:
    """find a learning rate: train a little while it rises, and see where the loss falls fastest"""

    def run(args: argparse.Namespace) -> int:
        from aibig.runs.find_lr import find_lr

        settings = {"low": args.low, "high": args.high, "steps": args.steps, "plot": args.out}
        curve = find_lr(args.config, parse_overrides(args.overrides), **settings)
        if args.json:
            print_once(json.dumps(dataclasses.asdict(curve)))
        else:
            suggestion = "none" if curve.suggestion is None else f"optimizer.lr={curve.suggestion:g}"
            print_once(f"suggestion: {suggestion}; {curve.note}" + (f"; plot: {args.out}" if args.out else ""))
        return 0

    parser.add_argument("--config", metavar="FILE", required=True, help="a YAML file, or a shipped config's name")
    parser.add_argument("--low", type=float, default=1e-6, help="the first rate (1e-6)")
    parser.add_argument("--high", type=float, default=1.0, help="the last rate (1)")
    parser.add_argument("--steps", type=_at_least(1), default=100, help="updates, from the first to the last (100)")
    parser.add_argument("--out", metavar="FILE", help="plot loss over rate into a .svg or .png file")
    parser.add_argument("--json", action="store_true", help="one JSON object, with every rate and loss")
    _add_overrides(parser)
    parser.set_defaults(run=run)


def _add_overrides(parser: argparse.ArgumentParser) -> None:
    about = "settings, instead of those in the file"
    parser.add_argument("overrides", nargs="*", metavar="section.setting=value", help=about)


def _models(parser: argparse.ArgumentParser) -> None:
    """list the models by name"""

    def run(args: argparse.Namespace) -> int:
        names = list_models(args.pattern, family=args.family)
        if not names:
            models.entry(args.pattern)  # no pattern that matches: the error names the nearest
        entries = [models.entry(name) for name in names]
        if args.json:
            print(
                json.dumps([{key: getattr(entry, key) for key in ("name", "family", "summary")} for entry in entries])
            )
            return 0
        width = max(map(len, names))
        for entry in entries:
            count = f"{_parameter_count(entry.name):>12}  " if args.parameters else ""
            print(f"{entry.name:{width}}  {entry.family:8}  {count}{entry.summary}")
        return 0

    parser.add_argument("pattern", nargs="?", default="*", help="with * and ?, for example 'l*'")
    parser.add_argument("--family", help="nets, dqn or language")
    parser.add_argument("--parameters", action="store_true", help="count parameters at default settings")
    parser.add_argument("--json", action="store_true", help="a JSON list of name, family and summary")
    parser.set_defaults(run=run)


def _parameter_count(name: str) -> str:
    """The number of a model's parameters at its defaults, without allocating any; "-" if a setting has no default."""
    from aibig.layers.utils.meta import ParametersOnMeta

    if any(setting.default is REQUIRED for setting in models.settings(name).values()):
        return "-"
    with ParametersOnMeta():
        return f"{sum(parameter.numel() for parameter in models.create(name).parameters()):,}"


def _describe(parser: argparse.ArgumentParser) -> None:
    """explain the settings of a model, a dataset, an environment, a task, ..., or the sections trainer and finetune"""

    def run(args: argparse.Namespace) -> int:
        if args.name is None:
            names = all_names()
            lines = [f"{kind}: {', '.join(listed)}" for kind, listed in names.items()]
            print(json.dumps(names) if args.json else "\n".join(lines))
            return 0
        descriptions = describe(args.name)
        if args.json:
            print(json.dumps({title: description.settings for title, description in descriptions.items()}))
            return 0
        for title, description in descriptions.items():
            print_settings(title, description.settings)
            if description.documentation:
                print(f"{description.documentation}\n")
        return 0

    about = "what a config would name: csv, resnet18, CartPole-v1; none lists them"
    parser.add_argument("name", metavar="NAME", nargs="?", help=about)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def _evaluate(parser: argparse.ArgumentParser) -> None:
    """evaluate a run's model, on a split of its data or on other data, and write its page"""

    def run(args: argparse.Namespace) -> int:
        from aibig.runs.evaluate import evaluate

        options = {"split": args.split, "bootstrap": args.bootstrap, "report": _report_option(args)}
        result = evaluate(args.path, args.data, **options)
        page = None if result.report is None else str(result.report)
        if args.json:
            intervals = {name: ends for name, ends in result.intervals.items() if all(map(math.isfinite, ends))}
            details = {"intervals": intervals, "per_class": result.per_class, "note": result.note}
            present = {key: value for key, value in details.items() if value}
            print(json.dumps({"metrics": finite(result), **present, "report": page}))
            return 0
        if result.note:
            print(result.note)
        print_metrics(result, result.intervals)
        print_table(["class", "precision", "recall", "f1", "rows"], [list(row.values()) for row in result.per_class])
        if page is not None:
            print(f"page: {page}")
        return 0

    parser.add_argument("path", metavar="RUN", help="a run's folder; with DATA also a model's folder")
    parser.add_argument("data", metavar="DATA", nargs="?", help="a file or folder to evaluate on instead of the run's")
    parser.add_argument("--split", default="test", choices=["validation", "test"], help="which split of the run's data")
    parser.add_argument("--bootstrap", action="store_true", help="95 %% intervals, from 1,000 resamples")
    _add_page_options(parser, "report.html in RUN")
    parser.set_defaults(run=run)


def _compare(parser: argparse.ArgumentParser) -> None:
    """set runs side by side, also such that have not ended, and write a page of their curves"""

    def run(args: argparse.Namespace) -> int:
        from aibig.runs.compare import compare

        comparison = compare(*args.paths, report=_report_option(args))
        page = None if comparison.report is None else str(comparison.report)
        if args.json:
            print(json.dumps({"runs": comparison.runs, "report": page}))
            return 0
        for title, rows in comparison.tables().items():
            print_table([title, *(run["name"] for run in comparison.runs)], rows)
        if page is not None:
            print(f"page: {page}")
        return 0

    parser.add_argument("paths", metavar="RUN", nargs="+", help="runs' folders")
    _add_page_options(parser, "compare.html")
    parser.set_defaults(run=run)


def _add_page_options(parser: argparse.ArgumentParser, default: str) -> None:
    pages = parser.add_mutually_exclusive_group()
    pages.add_argument("--report", metavar="FILE", help=f"where the page goes (default: {default})")
    pages.add_argument("--no-report", action="store_true", help="write no page")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def _report_option(args: argparse.Namespace) -> bool | str:
    """The argument `report` of the function by these options."""
    return args.report or not args.no_report


def _predict(parser: argparse.ArgumentParser) -> None:
    """predict from a CSV or .npy file, images, a sentence or a file of them, or the next token of a text"""

    def run(args: argparse.Namespace) -> int:
        from aibig.inference.predictor import predict

        predictions = predict(args.path, args.input)
        print_rows(predictions, args.json)
        if predictions.note:
            print(predictions.note, file=sys.stderr)
        return 0

    about = (
        "a .csv or .npy file; an image, or a folder of them; a sentence, or a .txt, .tsv or .csv file of them; for a "
    )
    parser.add_argument("path", metavar="RUN", help="a run's folder, or its model folder")
    parser.add_argument("input", metavar="INPUT", help=f"{about}language model a text")
    parser.add_argument("--json", action="store_true", help="a JSON list instead of CSV")
    parser.set_defaults(run=run)


def _generate(parser: argparse.ArgumentParser) -> None:
    """generate text from a prompt, or from several at once"""

    def run(args: argparse.Namespace) -> int:
        from aibig.files import read_utf8
        from aibig.inference.predictor import load_draft, load_text_generator

        prompts = [*(args.prompt or []), *map(read_utf8, args.prompt_file or [])]
        if not prompts:
            raise UserError("command line: --prompt TEXT or --prompt-file FILE is missing")
        generator = load_text_generator(args.path, args.weights)
        settings = {**_sampling_settings(args), "stop": args.stop or (), "draft": load_draft(args.draft)}
        if len(prompts) == 1 and not args.json:
            print_stream(prompts[0], generator.stream(prompts[0], **settings), generator)
            return 0
        texts = generator.generate(prompts, **settings)
        if generator.note:
            print(generator.note, file=sys.stderr)
        pairs = [*zip(prompts, texts, strict=True)]
        if args.json:
            rows = [{"prompt": prompt, "text": text} for prompt, text in pairs]
            print(json.dumps(rows[0] if len(rows) == 1 else rows))
        else:
            print("\n\n".join(prompt + text for prompt, text in pairs))
        return 0

    parser.add_argument("path", metavar="RUN", help="a run's folder, or its model folder")
    parser.add_argument("--prompt", action="append", metavar="TEXT", help="may be given several times")
    parser.add_argument("--prompt-file", action="append", metavar="FILE", help="a prompt from a UTF-8 text file")
    parser.add_argument("--stop", action="append", metavar="TEXT", help="end before this text; several times for more")
    parser.add_argument("--draft", metavar="RUN", help="a smaller model of the same vocabulary, to be faster")
    _add_sampling_options(parser)
    parser.add_argument("--json", action="store_true", help="JSON with prompt and text, once complete")
    parser.set_defaults(run=run)


def _chat(parser: argparse.ArgumentParser) -> None:
    """talk to a language model; /reset begins anew, /quit ends

    A model that was not trained on conversations goes on as a text with two speakers would.
    """

    def run(args: argparse.Namespace) -> int:
        from aibig.inference.chat import Chat
        from aibig.inference.predictor import load_text_generator

        names = {"user": args.user, "assistant": args.assistant, "system": args.system}
        conversation = Chat(load_text_generator(args.path, args.weights), **names, **_sampling_settings(args))
        for message in _messages(args.user):
            if message == "/reset":
                conversation.reset()
                continue
            try:
                print_stream(f"{args.assistant}:", conversation.reply(message), conversation.generator)
            except KeyboardInterrupt:  # ends the answer, not the conversation
                print()
            except UserError as error:
                print(error, file=sys.stderr)
        return 0

    parser.add_argument("path", metavar="RUN", help="a run's folder, or its model folder")
    parser.add_argument("--user", default="User", metavar="NAME", help="how your turns begin")
    parser.add_argument("--assistant", default="Assistant", metavar="NAME", help="how the model's turns begin")
    parser.add_argument("--system", default="", metavar="TEXT", help="what stands before the first turn")
    _add_sampling_options(parser)
    parser.set_defaults(run=run)


def _messages(user: str) -> Iterator[str]:
    """What the user types, line by line, until /quit or the end of the input."""
    question = f"{user}: " if sys.stdin.isatty() else ""
    while True:
        try:
            message = input(question).strip()
        except EOFError:
            return
        if message == "/quit":
            return
        if message:
            yield message


def _add_sampling_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-tokens", type=int, default=200, help="tokens at most (200)")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 takes the most probable token each time (1)")
    parser.add_argument("--top-k", type=int, help="sample from so many most probable tokens only")
    parser.add_argument("--top-p", type=float, default=1.0, help="from the fewest that together are so probable (1)")
    parser.add_argument("--min-p", type=float, default=0.0, help="from those so probable beside the most probable (0)")
    parser.add_argument("--repetition-penalty", type=float, default=1.0, help="above 1: tokens recur less often (1)")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling (0)")
    parser.add_argument("--weights", metavar="int8|float16", help="smaller weights, for a CPU")


def _sampling_settings(args: argparse.Namespace) -> dict[str, Any]:
    names = ("max_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
    return {name: getattr(args, name) for name in names}


def _play(parser: argparse.ArgumentParser) -> None:
    """let an agent play in its environment"""

    def run(args: argparse.Namespace) -> int:
        from aibig.inference.predictor import play, record_episode
        from aibig.metrics.outcomes import bootstrap

        for file in filter(None, (args.gif, args.video)):
            if not file.parent.is_dir():
                raise UserError(f"{file}: there is no folder {file.parent}; make it first")
        if args.gif or args.video:
            from aibig.report import figures

            recording = record_episode(args.path, seed=args.seed, all_frames=bool(args.video))
            if args.gif:
                args.gif.write_bytes(figures.gif(recording.frames, recording.seconds))
            if args.video:
                figures.write_video(recording.frames, recording.seconds, str(args.video))
        outcome = play(args.path, episodes=args.episodes, seed=args.seed, render=args.render)
        intervals = bootstrap(outcome) if args.episodes > 1 else {}
        if args.json:
            episodes = {"returns": outcome.returns.tolist(), "lengths": outcome.lengths.tolist()}
            print(json.dumps({**outcome.metrics(), "intervals": intervals, **episodes}))
            return 0
        for number, (value, length) in enumerate(zip(outcome.returns, outcome.lengths, strict=True)):
            print(f"episode {number}: return {value:g}, {length} env steps")
        print_metrics(outcome.metrics(), intervals)
        return 0

    parser.add_argument("path", metavar="RUN", help="a run's folder, or its model folder")
    parser.add_argument("--episodes", type=_at_least(1), default=10, help="how many (10)")
    parser.add_argument("--seed", type=_at_least(0), default=0, help="of the first episode; each has the next (0)")
    parser.add_argument("--render", metavar="MODE", help="gymnasium's render_mode, such as human")
    parser.add_argument("--gif", metavar="FILE", type=Path, help="write the first episode as an animated image")
    parser.add_argument("--video", metavar="FILE", type=Path, help="write it as a video (needs aibig[video])")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


COMMANDS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "train": _train,
    "find-lr": _find_lr,
    "models": _models,
    "describe": _describe,
    "evaluate": _evaluate,
    "compare": _compare,
    "predict": _predict,
    "generate": _generate,
    "chat": _chat,
    "play": _play,
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


def _at_least(minimum: int) -> Callable[[str], int]:
    """A whole number of at least `minimum`, for argparse."""

    def whole_number(word: str) -> int:
        if int(word) < minimum:
            raise argparse.ArgumentTypeError(f"must be at least {minimum}, not {word}")
        return int(word)

    return whole_number


if __name__ == "__main__":
    sys.exit(main())
