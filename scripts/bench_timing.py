"""What benchmarks time with: fresh processes, clocks, the size of what is trained. Knows no contestant."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SPEC_PEAKS = {"A100": 312e12, "H100": 989e12, "H200": 989e12}  # dense bf16 flops/s of SXM cards, NVIDIA's data sheets
TORCH_NAMES = {"fp32": "float32", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Size:
    """A GPT's shape, how it is fed, and how many updates are timed."""

    layers: int
    heads: int
    width: int
    context: int
    batch_size: int
    updates: int

    @property
    def tokens(self) -> int:
        """Of the timed updates."""
        return self.updates * self.batch_size * self.context

    def flops_per_token(self, vocab_size: int) -> int:
        """Of an update: 6 for each weight of a matrix, and attention's (PaLM, arXiv 2204.02311, appendix B)."""
        weights = 12 * self.layers * self.width**2 + vocab_size * self.width
        return 6 * weights + 12 * self.layers * self.width * self.context


def now() -> float:
    """Seconds: of the GPU and this process by the clock, or of the CPU."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


class Timer:
    """Times some updates after a first one, which is not counted."""

    def __init__(self, updates: int) -> None:
        self.begin, self.end, self.marks = 1, 1 + updates, dict[int, float]()

    def after(self, update: int) -> None:
        """To be called after each update, or at least those two; the first is 1."""
        if update in (self.begin, self.end):
            self.marks[update] = now()

    @property
    def seconds(self) -> float:
        """What the updates took."""
        return self.marks[self.end] - self.marks[self.begin]


def peak(dtype: str) -> float:
    """The flops/s of a square matrix product; on a GPU that we know, those of its data sheet."""
    import torch

    on_gpu = torch.cuda.is_available()
    for card, value in SPEC_PEAKS.items():
        if on_gpu and card in torch.cuda.get_device_name():
            return value
    size, device = (8192, "cuda") if on_gpu else (1024, "cpu")
    a, b = (torch.randn(size, size, device=device).to(getattr(torch, TORCH_NAMES[dtype])) for _ in range(2))
    seconds = []
    for _ in range(10):
        begun = now()
        a @ b
        seconds.append(now() - begun)
    return 2 * size**3 / min(seconds)


def dtypes() -> list[str]:
    """Those that this machine computes in: bf16 alone on a GPU, beside fp32 on a CPU that has its instructions."""
    import torch

    from aibig.training.devices.precision import cpu_has_bf16

    if torch.cuda.is_available():
        return ["bf16"]
    return ["fp32", "bf16"] if cpu_has_bf16() else ["fp32"]


def generation_rate(batch_size: int, run: Callable[[Any, int], object]) -> float:
    """Tokens a second of `run`, which takes prompts (B, 16) and a number of tokens, after a short run."""
    import torch

    prompts, count = torch.randint(1, 65, (batch_size, 16)), 256
    run(prompts, 8)
    begun = now()
    run(prompts, count)
    return batch_size * count / (now() - begun)
