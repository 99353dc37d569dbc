"""Which of torchrun's processes this is, by the variables that it sets. Imports no torch."""

from __future__ import annotations

import os


def rank() -> int:
    """The number of this process among all of the run; 0 without torchrun."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """The number of this process on its machine, which is that of its device; 0 without torchrun."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def world_size() -> int:
    """How many processes train together; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_rank() -> bool:
    """Whether this process is the one that writes and reports."""
    return rank() == 0
