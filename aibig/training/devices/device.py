"""The device that a run computes on: chosen, given data, asked for its memory. Knows no task."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from aibig.errors import UserError


def choose_device(name: str, local_rank: int) -> torch.device:
    """The device that a setting means on this machine.

    Args:
        name: "auto" (CUDA, else MPS, else the CPU), "cpu", "cuda", "cuda:1" or "mps".
        local_rank: index of this process on its machine, and of its CUDA device.

    Raises:
        UserError: the device is not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device("cuda", local_rank) if name == "cuda" else torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"trainer.device: {name!r} can't be used here ({reason}); use 'auto' or 'cpu'") from None
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def move(data: Any, device: torch.device) -> Any:
    """Move tensors to a device, asynchronously where that is safe.

    Args:
        data: tensors, or tuples, lists and mappings of tensors.
        device: target device.
    """
    if isinstance(data, Tensor):  # on MPS an asynchronous copy may read freed memory
        return data.to(device, non_blocking=device.type == "cuda")
    if isinstance(data, tuple) and hasattr(data, "_fields"):  # a NamedTuple has a parameter for each field
        return type(data)(*(move(item, device) for item in data))
    if isinstance(data, list | tuple):
        return type(data)(move(item, device) for item in data)
    return {key: move(item, device) for key, item in data.items()} if isinstance(data, dict) else data


def peak_memory(device: torch.device) -> dict[str, float]:
    """Peak memory of this process in GB (10**9 bytes): of the host, and torch's on CUDA.

    Windows does not report the host's, which is then left out.

    Args:
        device: device that the run computes on.
    """
    peak = {}
    try:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kibibytes elsewhere
        peak["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    except ImportError:
        pass
    if device.type == "cuda":
        peak["peak_cuda_memory_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
    return peak
