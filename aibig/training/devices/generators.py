"""The random number generators of a process: seeded, saved, restored. Knows no task."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def seed_generators(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators, on all devices.

    Args:
        seed: 64-bit integer.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def generators_state(generator: torch.Generator) -> dict[str, Any]:
    """The states of the global generators and of the task's, as tensors and plain values.

    Args:
        generator: generator of the task.
    """
    kind, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "task": generator.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.array(keys, dtype=np.int64)), position, has_gauss, cached),
    }


def load_generators_state(generator: torch.Generator, state: dict[str, Any]) -> None:
    """Restore the states of the global generators and of the task's.

    Args:
        generator: generator of the task.
        state: result of `generators_state`.
    """
    generator.set_state(state["task"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    if state.get("mps") is not None and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
