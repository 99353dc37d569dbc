"""The machine and the versions that a run was made with, as plain text. Knows no task."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

import torch

PACKAGES = ("aibig", "torch", "torchvision", "numpy", "scikit-learn", "gymnasium", "tokenizers")


def system_info(device: torch.device) -> dict[str, str]:
    """Versions, operating system, processor and device, which decide speed and rounding.

    Args:
        device: device that the run computes on.
    """
    versions = {name: version for name in PACKAGES if (version := _version(name)) is not None}
    info = {"python": platform.python_version(), **versions, "system": platform.platform(), "processor": _processor()}
    info["cores"] = str(os.cpu_count())
    if device.type == "cuda":
        info["accelerator"] = torch.cuda.get_device_name(device)
    return info


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name: Linux has it in a file, other systems in `platform`."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
