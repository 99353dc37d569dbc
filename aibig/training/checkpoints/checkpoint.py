"""Checkpoints that survive kill -9 and a full disk, and run no code when read. Knows no task and no trainer.

`checkpoints/step-000000100/` holds the state in `*.pt` files and a manifest with their sizes and SHA-256, written
last. The folder is written under a temporary name beside it, flushed to the disk, and renamed: under its real name
it is whole, or damaged later, which the manifest shows.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from aibig.training.devices.distributed import World

FORMAT = 1
MANIFEST = "manifest.json"


def try_to_write(folder: Path, step: int, state: dict[str, Any], world: World) -> OSError | None:
    """Write `state`, file name -> object, as the checkpoint of `step`. Every rank calls it, with its own files.

    The file "shared" is the main rank's to write. Returns what went wrong on any rank, a full disk say; then what
    was there before is untouched.
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
            _seal(temporary, path_of(folder, step), step)
        except OSError as error:
            failure = error
    if failure is not None and world.is_main:
        shutil.rmtree(temporary, ignore_errors=True)
    return OSError("on another rank") if world.any(failure is not None) and failure is None else failure


def _seal(temporary: Path, whole: Path, step: int) -> None:
    """Write the manifest, and give the folder its real name."""
    files = {one.name: {"bytes": one.stat().st_size, "sha256": _sha256(one)} for one in temporary.glob("*.pt")}
    write_text(temporary / MANIFEST, json.dumps({"format": FORMAT, "step": step, "files": files}, indent=1))
    replaced = temporary.with_suffix(".old")
    if whole.exists():  # a resumed run came to this step again
        whole.rename(replaced)
    temporary.rename(whole)
    flush_folder(whole.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of `step` lies."""
    return folder / f"step-{step:09d}"


def read(path: Path, name: str, device: torch.device | str = "cpu", *, mapped: bool = False) -> Any:
    """One file of a checkpoint. Only tensors and plain values are read: no code runs.

    mapped: its tensors stay in the file until they are looked at, for what is copied from there anyway.
    """
    return torch.load(path / f"{name}.pt", map_location=device, weights_only=True, mmap=mapped)


def size(content: Any) -> int:
    """The bytes of a file that `content` would be saved as."""
    counter = _Counter()
    torch.save(content, counter)  # type: ignore[arg-type]
    return counter.bytes


class _Counter(io.RawIOBase):
    """A file that goes nowhere."""

    bytes = 0

    def write(self, data: Any) -> int:
        """Count."""
        self.bytes += len(data)
        return len(data)


def newest_whole(folder: Path, report: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that its manifest vouches for; `report` is told of each damaged one passed over."""
    for step in reversed(steps(folder)):
        path = path_of(folder, step)
        damage = find_damage(path)
        if damage is None:
            return path
        report(f"{path}: {damage}; falling back to the checkpoint before it")
    return None


def find_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint folder, in words, or None."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            return f"has format {manifest['format']}, this version of aibig reads {FORMAT}"
        for name, facts in manifest["files"].items():
            file = path / name
            if file.stat().st_size != facts["bytes"]:
                return f"{name} has {file.stat().st_size} bytes, not {facts['bytes']}"
            if _sha256(file) != facts["sha256"]:
                return f"{name} does not have the content that was written"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"is damaged ({error})"
    return None


def prune(folder: Path, keep: set[int]) -> None:
    """Delete the checkpoints of all steps but `keep`."""
    for step in set(steps(folder)) - keep:
        shutil.rmtree(path_of(folder, step), ignore_errors=True)


def steps(folder: Path) -> list[int]:
    """The steps that have a checkpoint, ascending."""
    names = (re.fullmatch(r"step-(\d{9,})", path.name) for path in folder.glob("step-*"))
    return sorted(int(name[1]) for name in names if name)


def write_text(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        flush(file)
    temporary.replace(path)


def flush(file: Any) -> None:
    """See an open file onto the disk."""
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """See a folder's names onto the disk, where the system lets one."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
