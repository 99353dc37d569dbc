"""Where a run computes, and how data get there. Knows no task."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from aibig.errors import UserError


def choose_device(wanted: str, local_rank: int) -> torch.device:
    """The device that "auto", "cpu", "cuda", "cuda:1" or "mps" means here. Raises UserError if it is not there."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device("cuda", local_rank) if wanted == "cuda" else torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"trainer.device: {wanted!r} can't be used here ({reason}); use 'auto' or 'cpu'") from None
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def move(data: Any, device: torch.device) -> Any:
    """Tensors, and tuples, lists and mappings of them, on `device`, without waiting where that is safe."""
    if isinstance(data, Tensor):  # on MPS a copy that nobody waits for may read what is there no more
        return data.to(device, non_blocking=device.type == "cuda")
    if isinstance(data, tuple) and hasattr(data, "_fields"):  # a NamedTuple takes its parts one by one
        return type(data)(*(move(one, device) for one in data))
    if isinstance(data, list | tuple):
        return type(data)(move(one, device) for one in data)
    return {key: move(one, device) for key, one in data.items()} if isinstance(data, dict) else data


def peak_memory(device: torch.device) -> dict[str, float]:
    """The most memory that this process has held at once, in 10**9 bytes: the host's, and CUDA's as torch counts it.

    The host's is left out where the system does not tell (Windows).
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
