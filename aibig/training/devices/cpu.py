"""Settings of the process that make training on a CPU faster. Knows no model."""

from __future__ import annotations

import ctypes
import os
import platform

import torch

# glibc's malloc.h: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD
MALLOC_OPTIONS = {-3: 1 << 30, -1: 2**31 - 1, -2: 64 << 20}  # bytes
MALLOC_MAXIMA = {-3: 32 << 20}  # of older versions


def prepare_cpu() -> None:
    """Apply all settings, for the rest of the process."""
    keep_memory()
    flush_denormals()


def flush_denormals() -> None:
    """Round numbers below 1.2e-38 (denormals) to 0. A CPU is up to a hundred times slower with them.

    The optimizer's moments of a weight without gradients decay to such numbers: after 100,000 updates of a Q-network,
    a step of Adam was five times slower than initially. torch sets each thread; later threads inherit the setting.
    """
    torch.set_flush_denormal(True)


def keep_memory() -> None:
    """Let the C library keep freed memory, and torch use huge pages, for the rest of the process.

    Each backward pass frees the activations; glibc returns such large blocks to the system, which clears every page of
    them at the next use: 5 to 10 % of a training step on a CPU. Does nothing where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first allocation
    c_library = ctypes.CDLL(None)
    for option, value in MALLOC_OPTIONS.items():
        if not c_library.mallopt(option, value) and option in MALLOC_MAXIMA:
            c_library.mallopt(option, MALLOC_MAXIMA[option])
