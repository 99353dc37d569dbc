"""What benchmarks time with: clocks, the size of the model, rates. Knows no contestant."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SPEC_PEAKS = {"A100": 312e12, "H100": 989e12, "H200": 989e12}  # dense bf16 flops/s of SXM cards, NVIDIA's data sheets
TORCH_NAMES = {"fp32": "float32", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Size:
    """The size of a GPT and of its training.

    Args:
        layers: blocks.
        heads: attention heads of a block.
        width: of the residual stream.
        context: tokens of a sequence.
        batch_size: sequences of an update.
        updates: that are timed.
    """

    layers: int
    heads: int
    width: int
    context: int
    batch_size: int
    updates: int

    @property
    def tokens(self) -> int:
        """Tokens of the timed updates."""
        return self.updates * self.batch_size * self.context

    def flops_per_token(self, vocab_size: int) -> int:
        """Of an update: 6 for each weight of a matrix, and attention's (PaLM, arXiv 2204.02311, appendix B).

        Args:
            vocab_size: tokens in the vocabulary.
        """
        weights = 12 * self.layers * self.width**2 + vocab_size * self.width
        return 6 * weights + 12 * self.layers * self.width * self.context


def now() -> float:
    """Seconds: wall-clock on a GPU or with several threads, else CPU time of this process."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


class Timer:
    """Times updates after a first one, which is not counted.

    Args:
        updates: to time.
    """

    def __init__(self, updates: int) -> None:
        self.first, self.last, self.times = 1, 1 + updates, dict[int, float]()

    def record(self, update: int) -> None:
        """To be called after each update, at least after the first and the last.

        Args:
            update: its number, from 1.
        """
        if update in (self.first, self.last):
            self.times[update] = now()

    @property
    def seconds(self) -> float:
        """Seconds that the updates took."""
        return self.times[self.last] - self.times[self.first]


def peak(dtype: str) -> float:
    """The flops/s of a square matrix product; on a known GPU, those of its data sheet.

    Args:
        dtype: "fp32" or "bf16".
    """
    import torch

    on_gpu = torch.cuda.is_available()
    for card, value in SPEC_PEAKS.items():
        if on_gpu and card in torch.cuda.get_device_name():
            return value
    size, device = (8192, "cuda") if on_gpu else (1024, "cpu")
    a, b = (torch.randn(size, size, device=device).to(getattr(torch, TORCH_NAMES[dtype])) for _ in range(2))
    seconds = []
    for _ in range(10):
        start = now()
        a @ b
        seconds.append(now() - start)
    return 2 * size**3 / min(seconds)


def dtypes() -> list[str]:
    """Those to measure on this machine: bf16 alone on a GPU, fp32 on a CPU, and bf16 where it has instructions."""
    import torch

    from aibig.training.devices.precision import cpu_has_bf16

    if torch.cuda.is_available():
        return ["bf16"]
    return ["fp32", "bf16"] if cpu_has_bf16() else ["fp32"]


def generation_rate(batch_size: int, run: Callable[[Any, int], object]) -> float:
    """Tokens a second of generation, after a short run that is not counted.

    Args:
        batch_size: prompts at once.
        run: generates; takes prompts (B, 16) and the number of tokens to generate.
    """
    import torch

    prompts, count = torch.randint(1, 65, (batch_size, 16)), 256
    run(prompts, 8)
    start = now()
    run(prompts, count)
    return batch_size * count / (now() - start)
