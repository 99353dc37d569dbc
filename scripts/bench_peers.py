"""Language models as nanoGPT, transformers and plain PyTorch train and run them. Knows nothing of aibig's."""

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
    """Whether there is a checkout; if not, say so."""
    if chosen.nanogpt is None:
        print("nanoGPT: no checkout given (--nanogpt DIR): skipped")
    return chosen.nanogpt is not None


def nanogpt_training(folder: str, size: Size, text: str, dropout: float) -> float:
    """Tokens a second of its train.py as it is, timed by the lines that it prints."""
    timer = Timer(size.updates)

    class Lines(io.StringIO):
        def write(self, words: str) -> int:
            if found := re.match(r"iter (\d+):", words):
                timer.after(int(found[1]) + 1)
            return len(words)

    timing = ["--eval_iters=1", f"--max_iters={size.updates}", f"--log_interval={size.updates}"]
    with nanogpt_copy(folder, text) as copy, contextlib.chdir(copy), contextlib.redirect_stdout(Lines()):
        sys.path.insert(0, copy)
        sys.argv = ["train.py", *nanogpt_options(size, dropout), *timing]
        runpy.run_path("train.py", run_name="__main__")
    return size.tokens / timer.seconds


def nanogpt_options(size: Size, dropout: float) -> list[str]:
    """Of its config for Shakespeare's characters on a CPU, with this size."""
    shape = {"n_layer": size.layers, "n_head": size.heads, "n_embd": size.width, "dropout": dropout}
    shape |= {"block_size": size.context, "batch_size": size.batch_size}
    wanted = [f"--{name}={value}" for name, value in shape.items()]
    return ["config/train_shakespeare_char.py", "--device=cpu", "--compile=False", *wanted]


@contextlib.contextmanager
def nanogpt_copy(folder: str, text: str) -> Iterator[str]:
    """Its code, and `text` in its format: nine tenths to train on, in characters."""
    import numpy as np

    with tempfile.TemporaryDirectory() as parent:
        copy = Path(parent) / "nanoGPT"
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(".git", "data", "assets", "*.ipynb"))
        data = copy / "data" / "shakespeare_char"
        data.mkdir(parents=True)
        tokens, vocab_size = characters(text)
        border = int(len(tokens) * 0.9)
        tokens[:border].astype(np.uint16).tofile(data / "train.bin")
        tokens[border:].astype(np.uint16).tofile(data / "val.bin")
        (data / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": vocab_size}))
        yield str(copy)


# -------------------------------------------------------------------- transformers


def has_transformers() -> bool:
    """Whether transformers and what its Trainer needs are installed; if not, say so."""
    missing = [name for name in ("transformers", "accelerate") if importlib.util.find_spec(name) is None]
    for name in missing:
        print(f"{name}: not installed (pip install 'aibig[peers]'): transformers is skipped")
    return not missing


def gpt2(size: Size, vocab_size: int, context: int) -> Any:
    """transformers' GPT-2 without dropout, which is its fastest."""
    from transformers import GPT2Config, GPT2LMHeadModel

    shape: dict[str, Any] = {"n_layer": size.layers, "n_head": size.heads, "n_embd": size.width, "n_positions": context}
    none: dict[str, Any] = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocab_size, **shape, **none, bos_token_id=0, eos_token_id=0))


def transformers_training(size: Size, text: str | None, dtype: str, vocab_size: int = 0) -> float:
    """Tokens a second of its Trainer: fused AdamW, bf16 by autocast, compiled on a GPU; no text: random tokens."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    count = (size.updates + 1) * size.batch_size * size.context
    if text is None:
        tokens = torch.randint(vocab_size, (count,))
    else:
        array, vocab_size = characters(text)
        tokens = torch.from_numpy(array).repeat(1 + count // len(array))[:count]
    windows = [{"input_ids": one, "labels": one} for one in tokens.view(-1, size.context)]
    timer, cuda = Timer(size.updates), torch.cuda.is_available()

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            timer.after(state.global_step)

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
        Trainer(model, arguments, train_dataset=windows, callbacks=[Watch()]).train()
    return size.tokens / timer.seconds


def transformers_generation(size: Size, batch_size: int, dtype: str, cache: str) -> float:
    """Tokens a second of its generate; `cache` is grown by concatenation, or allocated once."""
    import torch

    model = gpt2(size, vocab_size=65, context=512).eval().to(getattr(torch, TORCH_NAMES[dtype]))
    kind = {"cache_implementation": "static"} if cache == "static" else {}

    def run(prompts: Any, count: int) -> None:
        seen = torch.ones_like(prompts)
        lengths = {"max_new_tokens": count, "min_new_tokens": count}
        model.generate(prompts, attention_mask=seen, do_sample=False, pad_token_id=0, **lengths, **kind)

    return generation_rate(batch_size, run)


# -------------------------------------------------------------------- plain PyTorch


def plain_lstm_training(width: int, updates: int) -> float:
    """Tokens a second of a loop as in PyTorch's word_language_model example, with the fused SGD."""
    import torch
    from torch import nn

    size = Size(2, 1, width, 35, 20, updates)
    embedding, recurrent, head = nn.Embedding(10_000, width), nn.LSTM(width, width, 2), nn.Linear(width, 10_000)
    parameters = [*embedding.parameters(), *recurrent.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=1.0, fused=True)
    tokens = torch.randint(10_000, ((updates + 1) * size.context + 1, size.batch_size))
    timer, memory = Timer(updates), None
    for update in range(updates + 1):
        start = update * size.context
        window, targets = tokens[start : start + size.context], tokens[start + 1 : start + 1 + size.context]
        states, memory = recurrent(embedding(window), memory)
        memory = tuple(one.detach() for one in memory)
        loss = nn.functional.cross_entropy(head(states).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        timer.after(update + 1)
    return size.tokens / timer.seconds


def characters(text: str) -> tuple[Any, int]:
    """A file's characters as numbers from 0 (int64), and how many there are."""
    import numpy as np

    codes = np.frombuffer(Path(text).read_text(encoding="utf-8").encode("utf-32-le"), np.uint32)
    known, tokens = np.unique(codes, return_inverse=True)
    return tokens, len(known)
