"""Language models against nanoGPT, transformers and plain PyTorch: each measurement in a fresh process, A B A B.

train-large  tokens/s of training on characters: 6 layers, 6 heads, width 384, context 256, batch 8
train-small  the same: 4 layers, 4 heads, width 128, context 64, batch 12
race         seconds from a process's start to validation loss 1.905 on the last tenth of --text
generate     tokens/s of 256 new tokens with a cache, 10.6M parameters, batch 1 and 16
lstm         tokens/s of training: 2 layers of width 200 and 650, vocabulary 10,000, batch 20, windows of 35
gpu          tokens/s and MFU of training a 124M GPT-2 in bf16, compiled, where there is CUDA

With one thread a process's CPU time counts, with more the clock; the race shows both.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bench_peers import (
    has_nanogpt,
    has_transformers,
    nanogpt_copy,
    nanogpt_options,
    nanogpt_training,
    plain_lstm_training,
    transformers_generation,
    transformers_training,
)
from bench_rounds import in_turn, isolated
from bench_timing import Size, Timer, dtypes, generation_rate, peak

OUR_MODEL = "gpt"
RACE_LOSS = 1.905  # validation loss that nanoGPT's command for a CPU reaches
NEVER = 10**9

Contestants = Mapping[str, Callable[[], float]]  # ours first; each measures tokens a second


LARGE, SMALL = Size(6, 6, 384, 256, 8, updates=10), Size(4, 4, 128, 64, 12, updates=50)
GPT2 = Size(12, 12, 768, 1024, 16, updates=20)
GPT2_VOCAB = 50_257


def main(arguments: list[str]) -> None:
    """Run a benchmark.

    Args:
        arguments: of the command line.
    """
    parser = argparse.ArgumentParser(
        prog="scripts/bench language", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bench", choices=BENCHES)
    parser.add_argument("--text", metavar="FILE", help="training text (default: Python's help topics)")
    parser.add_argument("--nanogpt", metavar="DIR", help="a checkout of nanoGPT; without it, it is left out")
    parser.add_argument("--config", default="language/tinyshakespeare_gpt", help="ours in the race")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = str(chosen.threads)  # inherited by every process that measures
    if chosen.bench != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    with tempfile.TemporaryDirectory() as folder:
        if chosen.text is None:
            from aibig.data.bundled import python_docs

            chosen.text = str(Path(folder) / "python_docs.txt")
            Path(chosen.text).write_text(python_docs(), encoding="utf-8")
        chosen.text = os.path.abspath(chosen.text)
        BENCHES[chosen.bench](chosen)


# -------------------------------------------------------------------- benchmarks


def train(chosen: argparse.Namespace, size: Size) -> None:
    """Whole training loops: ours, nanoGPT's, and transformers' Trainer.

    Args:
        chosen: arguments of the command line.
        size: of the model.
    """
    contestants: dict[str, Callable[[], float]] = {}
    for optimizer in ("adamw", "muon"):
        config = our_config(size, chosen.text) | {"optimizer": {"name": optimizer}}
        contestants[f"aibig, {optimizer}"] = partial(our_training, config, size)
    if has_nanogpt(chosen):
        for dropout in (0.2, 0.0):
            name = f"nanoGPT fp32, dropout {dropout}"
            contestants[name] = partial(nanogpt_training, chosen.nanogpt, size, chosen.text, dropout)
    if has_transformers():
        for dtype in dtypes():
            contestants[f"transformers {dtype}"] = partial(transformers_training, size, chosen.text, dtype)
    vocab_size = len(set(Path(chosen.text).read_text(encoding="utf-8")))
    report(contestants, chosen.rounds, size.flops_per_token(vocab_size))


def race(chosen: argparse.Namespace) -> None:
    """Time from a process's start to a validation loss: imports, initialisation, training and evaluations.

    Args:
        chosen: arguments of the command line.
    """
    with_nanogpt = has_nanogpt(chosen)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "aibig.train", "--config", chosen.config, "--out", str(run)]
        fractions = ["data.validation_fraction=0.1", "data.test_fraction=0.0"]
        for _ in range(chosen.rounds):
            shutil.rmtree(run, ignore_errors=True)
            ours = [*command, f"data.path={chosen.text}", *fractions]
            print_race("aibig", ours, ".", run / "metrics.jsonl", r'"kind": "validation".*?"loss": ([\d.]+)')
            if with_nanogpt:
                with nanogpt_copy(chosen.nanogpt, chosen.text) as copy:
                    theirs = [sys.executable, "-u", "train.py", *nanogpt_options(SMALL, 0.0), "--eval_iters=20"]
                    theirs += ["--log_interval=1", "--max_iters=2000", "--lr_decay_iters=2000"]  # as in its README
                    print_race("nanoGPT", theirs, copy, Path(copy) / "output", r"val loss ([\d.]+)")


def generate(chosen: argparse.Namespace) -> None:
    """Greedy generation from 16 tokens; no sequence ends early.

    Args:
        chosen: arguments of the command line.
    """
    for batch_size in (1, 16):
        contestants: dict[str, Callable[[], float]] = {"aibig fp32": partial(our_generation, batch_size)}
        for weights in ("float16", "int8"):
            contestants[f"aibig, {weights} weights"] = partial(our_generation, batch_size, weights)
        if has_transformers():
            for dtype in dtypes():
                for cache in ("dynamic", "static"):
                    name = f"transformers {dtype}, {cache} cache"
                    contestants[name] = partial(transformers_generation, LARGE, batch_size, dtype, cache)
        print(f"batch {batch_size}")
        report(contestants, chosen.rounds)


def lstm(chosen: argparse.Namespace) -> None:
    """LSTM training with the same model, SGD, clipping and tokens for both.

    Args:
        chosen: arguments of the command line.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = random_words(Path(folder), vocab_size=10_000, count=60_000)
        for width, updates in ((200, 40), (650, 10)):
            print(f"width {width}")
            ours = partial(our_lstm_training, words, width, updates)
            report({"aibig": ours, "plain PyTorch": partial(plain_lstm_training, width, updates)}, chosen.rounds)


def gpu(chosen: argparse.Namespace) -> None:
    """Training of 124M parameters in bf16, compiled, in batches of 16 x 1,024 tokens.

    Args:
        chosen: arguments of the command line.
    """
    import torch

    if not torch.cuda.is_available():
        return print("no CUDA device: skipped")
    with tempfile.TemporaryDirectory() as folder:
        words = random_words(Path(folder), vocab_size=GPT2_VOCAB, count=1_000_000)
        config = our_config(GPT2, words, tokenizer="words", vocab_size=GPT2_VOCAB)
        config["model"] = {"name": "gpt2"}
        config["trainer"] |= {"precision": "bf16", "compile": True}
        contestants = {"aibig": partial(our_training, config, GPT2)}
        if has_transformers():
            contestants["transformers"] = partial(transformers_training, GPT2, None, "bf16", GPT2_VOCAB)
        report(contestants, chosen.rounds, GPT2.flops_per_token(GPT2_VOCAB))


BENCHES: dict[str, Callable[[argparse.Namespace], None]] = {
    "train-large": partial(train, size=LARGE),
    "train-small": partial(train, size=SMALL),
    "race": race,
    "generate": generate,
    "lstm": lstm,
    "gpu": gpu,
}

# -------------------------------------------------------------------- measuring


def report(contestants: Contestants, rounds: int, flops_per_token: int | None = None) -> None:
    """Print a table: tokens a second, ours relative to each, and the share of the device's peak.

    Args:
        contestants: to measure, by name.
        rounds: measurements of each.
        flops_per_token: of the model; without it there is no share of the peak.
    """
    rates = in_turn({name: partial(isolated, measure) for name, measure in contestants.items()}, rounds)
    peaks = {} if flops_per_token is None else {dtype: isolated(partial(peak, dtype)) for dtype in dtypes()}
    ours = statistics.median(next(iter(rates.values())))
    headers = "".join(f" | of the {dtype} peak" for dtype in peaks)
    print(f"| {'':28} | tokens/s (min to max) | aibig / this{headers} |")
    print("|---" * (3 + len(peaks)) + "|")
    for name, measured in rates.items():
        median = statistics.median(measured)
        spread = f"{median:,.0f} ({min(measured):,.0f} to {max(measured):,.0f})"
        shares_of_peak = "".join(f" | {median * (flops_per_token or 0) / value:.1%}" for value in peaks.values())
        print(f"| {name:28} | {spread} | {ours / median:.2f}{shares_of_peak} |", flush=True)
    if peaks:
        print("peaks:", ", ".join(f"{dtype} {value / 1e9:,.0f} gigaflops/s" for dtype, value in peaks.items()))


def print_race(name: str, command: list[str], folder: str, log: Path, pattern: str) -> None:
    """Run a command until its validation loss reaches RACE_LOSS, or to its end, and print its time.

    Args:
        name: of the contestant.
        command: with its arguments.
        folder: it runs in.
        log: file with its losses; one named "output" takes its standard output.
        pattern: regular expression of the losses in the log.
    """
    start, losses, usage = time.perf_counter(), [float(NEVER)], None
    output = subprocess.DEVNULL if log.name != "output" else log.open("w")
    process = subprocess.Popen(command, cwd=folder, stdout=output)
    while usage is None and min(losses) > RACE_LOSS:
        time.sleep(0.05)
        pid, _, usage_so_far = os.wait4(process.pid, os.WNOHANG)
        usage = usage_so_far if pid else None
        matches = re.findall(pattern, log.read_text() if log.exists() else "")
        losses = [NEVER, *map(float, matches)]
    seconds = time.perf_counter() - start
    if usage is None:
        process.kill()
        usage = os.wait4(process.pid, 0)[2]
    process.returncode = 0  # waited for
    cpu = usage.ru_utime + usage.ru_stime
    print(f"{name:8} {seconds:.1f} s by the clock, {cpu:.1f} s of CPU time, validation loss {min(losses)}", flush=True)


# -------------------------------------------------------------------- aibig


def our_config(size: Size, text: str, **data: Any) -> dict[str, Any]:
    """A config as a user would write it, without evaluations and checkpoints.

    Args:
        size: of the model and the run.
        text: file to train on.
        data: further settings of the section `data`.
    """
    shape = {"layers": size.layers, "heads": size.heads, "width": size.width}
    data |= {"context": size.context, "batch_size": size.batch_size}
    return {
        "model": {"name": OUR_MODEL, **shape},
        "task": {"name": "language_modelling"},
        "data": {"name": "text", "path": text, "validation_fraction": 0.0, "test_fraction": 0.0, **data},
        "optimizer": {"name": "adamw"},
        "trainer": {"clip_norm": 1.0, "max_steps": size.updates + 1, "log_every": size.updates}
        | {"eval_every": NEVER, "save_every": NEVER},
    }


def our_training(config: dict[str, Any], size: Size) -> float:
    """Tokens a second of the trainer, batches and logging included.

    Args:
        config: of the run.
        size: of the model and the run.
    """
    from aibig.config.run_config import load_config
    from aibig.runs.train import build

    trainer, task = build(load_config(config))
    timer, after_update = Timer(size.updates), task.after_update

    def timed(step: int) -> None:
        after_update(step)
        timer.record(step)

    task.after_update = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        trainer.fit(task, Path(folder))
    return size.tokens / timer.seconds


def our_lstm_training(words: str, width: int, updates: int) -> float:
    """Tokens a second of the trainer; state carries over from window to window.

    Args:
        words: file to train on.
        width: of embedding and LSTM.
        updates: that are timed.
    """
    size = Size(2, 1, width, 35, 20, updates)
    config = our_config(size, words, tokenizer="words", vocab_size=10_000, order="stream")
    config["model"] = {"name": "lstm", "embedding": width, "hidden": width, "layers": 2}
    config["optimizer"] = {"name": "sgd", "lr": 1.0, "momentum": 0.0}
    return our_training(config, size)


def our_generation(batch_size: int, weights: str = "float32") -> float:
    """Tokens a second of generation with a KV cache, quantization not included.

    Args:
        batch_size: sequences that are generated at once.
        weights: dtype of the weights: float32, float16 or int8.
    """
    import aibig
    from aibig.generation.quantized import quantize

    shape = {"layers": LARGE.layers, "heads": LARGE.heads, "width": LARGE.width}
    model: Any = aibig.create_model(OUR_MODEL, vocab_size=65, context=512, **shape).eval()
    if weights != "float32":
        quantize(model, weights)
    return generation_rate(
        batch_size, lambda prompts, count: model.generate(prompts, max_tokens=count, temperature=0.0)
    )


# -------------------------------------------------------------------- data


def random_words(folder: Path, vocab_size: int, count: int) -> str:
    """Write a file of random words, each of which occurs.

    Args:
        folder: for the file.
        vocab_size: number of different words.
        count: random words, after each word once.

    Returns:
        Its path.
    """
    import numpy as np

    words = np.random.default_rng(0).integers(vocab_size, size=count)
    file = folder / "words.txt"
    file.write_text(" ".join(f"w{word}" for word in [*range(vocab_size), *words.tolist()]))
    return str(file)
