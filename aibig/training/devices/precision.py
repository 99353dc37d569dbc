"""Mixed precision and thread count, chosen by written rules. Knows no task.

The rules, applied once and saved with the run, so that a resumed or repeated run computes in the same way:
- precision "auto" is bf16 where the device has bf16 instructions and most weights stand in matrices wide enough to
  gain from them: on a CPU at least 256, or 128 in models of tokens, whose batches have many rows (2.3 times as fast
  there, where a net of 128 with 64 rows is slower); on CUDA at least 128, or convolutions. fp16 on a CUDA device
  without bf16; else fp32.
- threads "auto" is 1 on a CPU for a model of fewer than 100,000 parameters, where handing work to a second thread
  costs more than it gains; else torch's own number.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
WIDE_ON_CPU, WIDE_ON_CPU_FOR_TOKENS, WIDE_ON_CUDA = 256, 128, 128
SMALL_MODEL_PARAMETERS = 100_000


def choose_precision(wanted: str, device: torch.device, model: nn.Module) -> str:
    """`wanted`, or for "auto" what the rule gives: "fp32", "bf16" or "fp16"."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda" and (
        wide_share(model, WIDE_ON_CUDA) > 0.5 or _has(model, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    ):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    wide = WIDE_ON_CPU_FOR_TOKENS if _has(model, nn.Embedding) else WIDE_ON_CPU
    if device.type == "cpu" and cpu_has_bf16() and wide_share(model, wide) > 0.5:
        return "bf16"
    return "fp32"


def choose_threads(wanted: int | str, device: torch.device, model: nn.Module) -> int:
    """`wanted`, or for "auto" what the rule gives."""
    if isinstance(wanted, int):
        return wanted
    small = sum(one.numel() for one in model.parameters()) < SMALL_MODEL_PARAMETERS
    return 1 if small and device.type == "cpu" else torch.get_num_threads()


def autocast(precision: str, device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """What makes the context that forward passes run in."""
    if precision == "fp32":
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=DTYPES[precision])


def wide_share(model: nn.Module, width: int) -> float:
    """The share of the weights in matrix products that stand in matrices of at least `width` by `width`."""
    sizes = [
        (weight.numel(), min(weight.shape))
        for module in model.modules()
        if isinstance(module, nn.Linear | nn.RNNBase)
        for weight in module.parameters(recurse=False)
        if weight.ndim == 2
    ]
    total = sum(numel for numel, _ in sizes)
    return sum(numel for numel, narrow in sizes if narrow >= width) / total if total else 0.0


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bf16 matrices in hardware (AVX-512 BF16 or AMX)."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def _has(model: nn.Module, *kinds: type[nn.Module]) -> bool:
    return any(isinstance(one, kinds) for one in model.modules())
