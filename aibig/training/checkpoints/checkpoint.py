"""Checkpoints that survive kill -9 and a full disk, and run no code when read. Knows no task and no trainer.

`checkpoints/step-000000100/` holds the state in `*.pt` files and a manifest with their sizes and SHA-256, written
last. The folder is written under a temporary name beside it, flushed to the disk, and renamed: under its real name
it is complete. Later damage is found by the manifest.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from aibig.files import flush, read_json, replace_folder, write_text
from aibig.training.devices.distributed import World

FORMAT = 1
MANIFEST = "manifest.json"


def try_to_write(folder: Path, step: int, state: dict[str, Any], world: World) -> OSError | None:
    """Write a checkpoint. Every rank calls it, with its own files; the file "shared" is written by the main rank.

    Args:
        folder: folder of the checkpoints.
        step: step of the checkpoint.
        state: content of each file, by its name without ".pt".
        world: ranks of the run.

    Returns:
        The error of any rank, such as a full disk; older checkpoints are then untouched. None if there was no error.
    """
    temporary = folder / f".step-{step:09d}.tmp"
    failure: OSError | None = None
    if world.is_main:
        try:
            for leftover in folder.glob(".step-*"):
                shutil.rmtree(leftover)
            temporary.mkdir(parents=True)
        except OSError as error:
            failure = error
    if not world.any(failure is not None):  # all ranks wait here for the folder
        try:
            for name, content in state.items():
                if name != "shared" or world.is_main:
                    with (temporary / f"{name}.pt").open("wb") as file:
                        torch.save(content, file)
                        flush(file)
        except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError
            failure = error if isinstance(error, OSError) else OSError(str(error).splitlines()[0])
    if world.any(failure is not None):
        failure = failure or OSError("on another rank")
    elif world.is_main:
        try:
            _commit(temporary, path_of(folder, step), step)
        except OSError as error:
            failure = error
    if failure is not None and world.is_main:
        shutil.rmtree(temporary, ignore_errors=True)
    return OSError("on another rank") if world.any(failure is not None) and failure is None else failure


def _commit(temporary: Path, path: Path, step: int) -> None:
    """Write the manifest, and give the folder its real name."""
    paths = temporary.glob("*.pt")
    files = {file.name: {"bytes": file.stat().st_size, "sha256": _sha256(file)} for file in paths}
    write_text(temporary / MANIFEST, json.dumps({"format": FORMAT, "step": step, "files": files}, indent=1))
    replace_folder(path, temporary)  # a resumed run may reach a step again


def path_of(folder: Path, step: int) -> Path:
    """The folder of one checkpoint.

    Args:
        folder: of the checkpoints.
        step: of the checkpoint.
    """
    return folder / f"step-{step:09d}"


def read(path: Path, name: str, device: torch.device | str = "cpu", *, mapped: bool = False) -> Any:
    """The content of one file of a checkpoint. Only tensors and plain values are read: no code runs.

    Args:
        path: the checkpoint's folder.
        name: of the file, without ".pt".
        device: device of its tensors.
        mapped: whether tensors are memory-mapped, for tensors that are copied anyway.
    """
    return torch.load(path / f"{name}.pt", map_location=device, weights_only=True, mmap=mapped)


def size(content: Any) -> int:
    """Size in bytes of a file of a checkpoint, which is not written.

    Args:
        content: content of the file.
    """
    counter = _Counter()
    torch.save(content, counter)  # type: ignore[arg-type]
    return counter.bytes


class _Counter(io.RawIOBase):
    """A file that only counts its bytes."""

    bytes = 0

    def write(self, data: Any) -> int:
        """Count the bytes.

        Args:
            data: what would be written.
        """
        self.bytes += len(data)
        return len(data)


def newest_valid(folder: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose files match its manifest; None if there is none.

    Args:
        folder: of the checkpoints.
        warn: called with a message for each damaged checkpoint.
    """
    for step in reversed(steps(folder)):
        path = path_of(folder, step)
        damage = find_damage(path)
        if damage is None:
            return path
        warn(f"{path}: {damage}; falling back to the checkpoint before it")
    return None


def find_damage(path: Path) -> str | None:
    """A message on the damage of a checkpoint; None if it is valid.

    Args:
        path: the checkpoint's folder.
    """
    try:
        manifest = read_json(path / MANIFEST)
        if manifest["format"] != FORMAT:
            return f"has format {manifest['format']}, this version of aibig reads {FORMAT}"
        for name, expected in manifest["files"].items():
            file = path / name
            if file.stat().st_size != expected["bytes"]:
                return f"{name} has {file.stat().st_size} bytes, not {expected['bytes']}"
            if _sha256(file) != expected["sha256"]:
                return f"{name} does not have the content that was written"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"is damaged ({error})"
    return None


def prune(folder: Path, keep: set[int]) -> None:
    """Delete checkpoints.

    Args:
        folder: of the checkpoints.
        keep: steps whose checkpoints are kept.
    """
    for step in set(steps(folder)) - keep:
        shutil.rmtree(path_of(folder, step), ignore_errors=True)


def steps(folder: Path) -> list[int]:
    """The steps that have a checkpoint, ascending.

    Args:
        folder: of the checkpoints.
    """
    names = (re.fullmatch(r"step-(\d{9,})", path.name) for path in folder.glob("step-*"))
    return sorted(int(name[1]) for name in names if name)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
