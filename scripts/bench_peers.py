"""Language models as nanoGPT, transformers and plain PyTorch train and run them. Knows nothing of aibig."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import pickle
import re
import runpy
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench_timing import TORCH_NAMES, Size, Timer, generation_rate

# -------------------------------------------------------------------- nanoGPT


def has_nanogpt(chosen: argparse.Namespace) -> bool:
    """Whether there is a checkout; if not, print that.

    Args:
        chosen: the command line's arguments.
    """
    if chosen.nanogpt is None:
        print("nanoGPT: no checkout given (--nanogpt DIR): skipped")
    return chosen.nanogpt is not None


def nanogpt_training(folder: str, size: Size, text: str, dropout: float) -> float:
    """Tokens a second of its train.py as it is, timed by the lines that it prints.

    Args:
        folder: of the checkout.
        size: of the model.
        text: path of the training text.
        dropout: rate.
    """
    timer = Timer(size.updates)

    class Lines(io.StringIO):
        def write(self, text: str) -> int:
            if match := re.match(r"iter (\d+):", text):
                timer.record(int(match[1]) + 1)
            return len(text)

    timing = ["--eval_iters=1", f"--max_iters={size.updates}", f"--log_interval={size.updates}"]
    with nanogpt_copy(folder, text) as copy, contextlib.chdir(copy), contextlib.redirect_stdout(Lines()):
        sys.path.insert(0, copy)
        sys.argv = ["train.py", *nanogpt_options(size, dropout), *timing]
        runpy.run_path("train.py", run_name="__main__")
    return size.tokens / timer.seconds


def nanogpt_options(size: Size, dropout: float) -> list[str]:
    """Command-line options: its config for Shakespeare's characters on a CPU, with another size.

    Args:
        size: of the model.
        dropout: rate.
    """
    shape = {"n_layer": size.layers, "n_head": size.heads, "n_embd": size.width, "dropout": dropout}
    shape |= {"block_size": size.context, "batch_size": size.batch_size}
    options = [f"--{name}={value}" for name, value in shape.items()]
    return ["config/train_shakespeare_char.py", "--device=cpu", "--compile=False", *options]


@contextlib.contextmanager
def nanogpt_copy(folder: str, text: str) -> Iterator[str]:
    """A copy of its code, with a text in its format: nine tenths to train on, in characters.

    Args:
        folder: of the checkout.
        text: path of the text.
    """
    import numpy as np

    with tempfile.TemporaryDirectory() as parent:
        copy = Path(parent) / "nanoGPT"
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(".git", "data", "assets", "*.ipynb"))
        data = copy / "data" / "shakespeare_char"
        data.mkdir(parents=True)
        tokens, vocab_size = characters(text)
        boundary = int(len(tokens) * 0.9)
        tokens[:boundary].astype(np.uint16).tofile(data / "train.bin")
        tokens[boundary:].astype(np.uint16).tofile(data / "val.bin")
        (data / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": vocab_size}))
        yield str(copy)


# -------------------------------------------------------------------- transformers


def has_transformers() -> bool:
    """Whether transformers and what its Trainer needs are installed; if not, print that."""
    missing = [name for name in ("transformers", "accelerate") if importlib.util.find_spec(name) is None]
    for name in missing:
        print(f"{name}: not installed (pip install 'aibig[peers]'): transformers is skipped")
    return not missing


def gpt2(size: Size, vocab_size: int, context: int) -> Any:
    """transformers' GPT-2 without dropout, which is its fastest.

    Args:
        size: of the model.
        vocab_size: tokens in the vocabulary.
        context: longest sequence in tokens.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    shape: dict[str, Any] = {"n_layer": size.layers, "n_head": size.heads, "n_embd": size.width, "n_positions": context}
    no_dropout: dict[str, Any] = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocab_size, **shape, **no_dropout, bos_token_id=0, eos_token_id=0))


def transformers_training(size: Size, text: str | None, dtype: str, vocab_size: int = 0) -> float:
    """Tokens a second of its Trainer: fused AdamW, bf16 by autocast, compiled on a GPU.

    Args:
        size: of the model.
        text: path of the training text; None for random tokens.
        dtype: "fp32" or "bf16".
        vocab_size: of the random tokens.
    """
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    count = (size.updates + 1) * size.batch_size * size.context
    if text is None:
        tokens = torch.randint(vocab_size, (count,))
    else:
        array, vocab_size = characters(text)
        tokens = torch.from_numpy(array).repeat(1 + count // len(array))[:count]
    windows = [{"input_ids": window, "labels": window} for window in tokens.view(-1, size.context)]
    timer, cuda = Timer(size.updates), torch.cuda.is_available()

    class Timing(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            timer.record(state.global_step)

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=size.updates + 1,
            per_device_train_batch_size=size.batch_size,
            optim="adamw_torch_fused",
            logging_steps=size.updates,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=cuda,
            use_cpu=not cuda,
            bf16=dtype == "bf16",
            torch_compile=cuda,
        )
        model = gpt2(size, vocab_size, size.context)
        Trainer(model, arguments, train_dataset=windows, callbacks=[Timing()]).train()
    return size.tokens / timer.seconds


def transformers_generation(size: Size, batch_size: int, dtype: str, cache: str) -> float:
    """Tokens a second of its generate.

    Args:
        size: of the model.
        batch_size: prompts at once.
        dtype: "fp32" or "bf16".
        cache: "static", allocated once, or "dynamic", grown by concatenation.
    """
    import torch

    model = gpt2(size, vocab_size=65, context=512).eval().to(getattr(torch, TORCH_NAMES[dtype]))
    kind = {"cache_implementation": "static"} if cache == "static" else {}

    def run(prompts: Any, count: int) -> None:
        attention_mask = torch.ones_like(prompts)
        lengths = {"max_new_tokens": count, "min_new_tokens": count}
        model.generate(prompts, attention_mask=attention_mask, do_sample=False, pad_token_id=0, **lengths, **kind)

    return generation_rate(batch_size, run)


# -------------------------------------------------------------------- plain PyTorch


def plain_lstm_training(width: int, updates: int) -> float:
    """Tokens a second of a loop as in PyTorch's word_language_model example, with the fused SGD.

    Args:
        width: of embeddings and states.
        updates: that are timed.
    """
    import torch
    from torch import nn

    size = Size(2, 1, width, 35, 20, updates)
    embedding, recurrent, head = nn.Embedding(10_000, width), nn.LSTM(width, width, 2), nn.Linear(width, 10_000)
    parameters = [*embedding.parameters(), *recurrent.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=1.0, fused=True)
    tokens = torch.randint(10_000, ((updates + 1) * size.context + 1, size.batch_size))
    timer, state = Timer(updates), None
    for update in range(updates + 1):
        start = update * size.context
        window, targets = tokens[start : start + size.context], tokens[start + 1 : start + 1 + size.context]
        outputs, state = recurrent(embedding(window), state)
        state = tuple(tensor.detach() for tensor in state)
        loss = nn.functional.cross_entropy(head(outputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        timer.record(update + 1)
    return size.tokens / timer.seconds


def characters(text: str) -> tuple[Any, int]:
    """A file's characters as token ids (int64), and the size of their vocabulary.

    Args:
        text: path of the file.
    """
    import numpy as np

    codes = np.frombuffer(Path(text).read_text(encoding="utf-8").encode("utf-32-le"), np.uint32)
    vocabulary, tokens = np.unique(codes, return_inverse=True)
    return tokens, len(vocabulary)
