"""Where a run computes, and how data get there. Knows no task."""

from __future__ import annotations

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
    """Tensors, and tuples, lists and mappings of them, on `device`, without waiting."""
    if isinstance(data, Tensor):
        return data.to(device, non_blocking=True)
    if isinstance(data, tuple) and hasattr(data, "_fields"):  # a NamedTuple takes its parts one by one
        return type(data)(*(move(one, device) for one in data))
    if isinstance(data, list | tuple):
        return type(data)(move(one, device) for one in data)
    return {key: move(one, device) for key, one in data.items()} if isinstance(data, dict) else data
