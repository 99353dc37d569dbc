"""Mixed precision and thread count, chosen by written rules. Knows no task.

The rules are applied once and saved with the run, so that a resumed or repeated run computes in the same way:
- precision "auto" is bf16 where the device has bf16 instructions and most weights are in matrices that are wide enough
  to be faster with them: on a CPU at least 256, or 128 in language models, whose batches have many rows (2.3 times as
  fast; a net of 128 with 64 rows is slower); on CUDA at least 128, or convolutions. fp16 on a CUDA device without
  bf16; else fp32.
- threads "auto" is 1 on a CPU for a model of fewer than 100,000 parameters, where a second thread costs more than it
  saves; else torch's default.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
BF16_WIDTH_ON_CPU, BF16_WIDTH_ON_CPU_FOR_TOKENS, BF16_WIDTH_ON_CUDA = 256, 128, 128
SMALL_MODEL_PARAMETERS = 100_000


def choose_precision(precision: str, device: torch.device, model: nn.Module) -> str:
    """The precision of forward passes: "fp32", "bf16" or "fp16".

    Args:
        precision: one of them, or "auto" to apply the rule.
        device: device that the run computes on.
        model: the model to train.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda" and (
        wide_fraction(model, BF16_WIDTH_ON_CUDA) > 0.5 or _has(model, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    ):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    width = BF16_WIDTH_ON_CPU_FOR_TOKENS if _has(model, nn.Embedding) else BF16_WIDTH_ON_CPU
    if device.type == "cpu" and cpu_has_bf16() and wide_fraction(model, width) > 0.5:
        return "bf16"
    return "fp32"


def choose_threads(threads: int | str, device: torch.device, model: nn.Module) -> int:
    """The number of CPU threads.

    Args:
        threads: the number, or "auto" to apply the rule.
        device: device that the run computes on.
        model: the model to train.
    """
    if isinstance(threads, int):
        return threads
    small = sum(parameter.numel() for parameter in model.parameters()) < SMALL_MODEL_PARAMETERS
    return 1 if small and device.type == "cpu" else torch.get_num_threads()


def autocast(precision: str, device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """A function that makes the context for forward passes.

    Args:
        precision: "fp32", "bf16" or "fp16".
        device: device that the run computes on.
    """
    if precision == "fp32":
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=DTYPES[precision])


def wide_fraction(model: nn.Module, width: int) -> float:
    """The fraction of the weights of linear and recurrent layers that are in wide matrices.

    Args:
        model: the model.
        width: smallest number of rows and of columns of a wide matrix.
    """
    sizes = [
        (weight.numel(), min(weight.shape))
        for module in model.modules()
        if isinstance(module, nn.Linear | nn.RNNBase)
        for weight in module.parameters(recurse=False)
        if weight.ndim == 2
    ]
    total = sum(numel for numel, _ in sizes)
    return sum(numel for numel, smaller_side in sizes if smaller_side >= width) / total if total else 0.0


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bf16 matrices in hardware (AVX-512 BF16 or AMX)."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def _has(model: nn.Module, *classes: type[nn.Module]) -> bool:
    return any(isinstance(module, classes) for module in model.modules())
