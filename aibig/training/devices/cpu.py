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
    """Apply all of them, for the rest of the process."""
    keep_memory()
    flush_denormals()


def flush_denormals() -> None:
    """Round numbers below 1.2e-38 (denormals) to 0, for which a CPU takes up to a hundred times as long.

    An optimizer's moments of a weight that gets no gradient any more fade to such numbers: after 100,000 updates of a
    Q-network, Adam took five times as long as at first. torch asks each thread; those that it starts later inherit it.
    """
    torch.set_flush_denormal(True)


def keep_memory() -> None:
    """Ask the C library to keep what is freed, and torch for huge pages, for the rest of the process.

    Each backward pass frees all that the forward pass kept; glibc gives such large pieces back to the system, which
    hands them out again page by page, cleared: 5 to 10 % of a training step on a CPU. Elsewhere nothing is done.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first allocation
    c_library = ctypes.CDLL(None)
    for option, value in MALLOC_OPTIONS.items():
        if not c_library.mallopt(option, value) and option in MALLOC_MAXIMA:
            c_library.mallopt(option, MALLOC_MAXIMA[option])
