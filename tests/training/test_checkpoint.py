"""Checkpoints: whole or not there; damage is found; nothing stored is run."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from aibig.training.checkpoints import checkpoint
from aibig.training.devices.distributed import World

STATE = {"shared": {"weights": torch.arange(1000.0), "step": 3}, "rank-0": {"plain": [1, "two", None]}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoints"
    for step in (10, 20):
        assert checkpoint.try_to_write(folder, step, STATE, World()) is None
    return folder


def test_what_was_written_is_read(folder: Path) -> None:
    path = checkpoint.newest_valid(folder, print)
    assert path == folder / "step-000000020"
    assert torch.equal(checkpoint.read(path, "shared")["weights"], torch.arange(1000.0))
    assert checkpoint.read(path, "rank-0") == {"plain": [1, "two", None]}
    assert sorted(path.name for path in folder.iterdir()) == ["step-000000010", "step-000000020"]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("shared.pt", lambda content: content[:-1]),
        ("shared.pt", lambda content: content[:2000] + b"X" + content[2001:]),
        ("manifest.json", lambda content: content[:20]),
        ("manifest.json", lambda content: b"[]"),
        ("manifest.json", lambda content: content.replace(b'"format": 1', b'"format": 99')),
    ],
)
def test_damage_is_found_and_the_one_before_taken(folder: Path, name: str, damage: Any) -> None:
    file = folder / "step-000000020" / name
    content = file.read_bytes()
    assert damage(content) != content
    file.write_bytes(damage(content))
    warnings: list[str] = []
    assert checkpoint.newest_valid(folder, warnings.append) == folder / "step-000000010"
    assert len(warnings) == 1 and "step-000000020" in warnings[0] and "falling back" in warnings[0]


def test_a_missing_file_is_damage_and_a_half_written_folder_is_no_checkpoint(folder: Path) -> None:
    (folder / "step-000000020" / "rank-0.pt").unlink()
    shutil.copytree(folder / "step-000000010", folder / ".step-000000030.tmp")
    assert checkpoint.newest_valid(folder, lambda _: None) == folder / "step-000000010"
    assert checkpoint.try_to_write(folder, 40, STATE, World()) is None
    assert not (folder / ".step-000000030.tmp").exists()


def test_nothing_stored_is_run(folder: Path) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return (Path.touch, (folder / "owned",))

    torch.save({"weights": Attack()}, folder / "step-000000020" / "shared.pt")
    with pytest.raises(pickle.UnpicklingError):
        checkpoint.read(folder / "step-000000020", "shared")
    assert not (folder / "owned").exists()


def test_a_full_disk_leaves_what_was_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "flush", full)
    error = checkpoint.try_to_write(folder, 30, STATE, World())
    assert error is not None and "No space left" in str(error)
    assert sorted(path.name for path in folder.iterdir()) == ["step-000000010", "step-000000020"]


def test_the_manifest_vouches_for_every_file(folder: Path) -> None:
    manifest = json.loads((folder / "step-000000020" / "manifest.json").read_text())
    assert manifest["step"] == 20 and set(manifest["files"]) == {"shared.pt", "rank-0.pt"}
    assert all(len(file["sha256"]) == 64 for file in manifest["files"].values())


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read from Linux's /proc")
def test_a_large_replay_is_saved_and_restored_without_a_second_copy(tmp_path: Path) -> None:
    """Of 200 MB, three quarters filled. In a process of its own, where nothing else takes or frees memory."""
    script = """
import sys
from pathlib import Path
import numpy as np
from aibig.data.replay.frame_replay import FrameReplayBuffer
from aibig.data.replay.base import EnvStep, ReplaySpec
from aibig.training.checkpoints import checkpoint
from aibig.training.devices.distributed import World
import torch

def megabytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1e3

folder, spec = Path(sys.argv[1]), ReplaySpec((4, 84, 84), 6, 4, torch.uint8, 4)
replays = [FrameReplayBuffer(spec, capacity=28_000) for _ in range(2)]
frames, zeros, no = np.ones((4, 4, 84, 84), np.uint8), np.zeros(4, np.float32), np.zeros(4, bool)
for _ in range(5_250):
    replays[0].add(EnvStep(frames, np.zeros(4, np.int64), zeros, frames, no, no, ~no))
peak = megabytes("VmHWM")
assert checkpoint.try_to_write(folder, 1, {"rank-0": replays[0].state_dict()}, World()) is None
path = checkpoint.newest_valid(folder, print)
print(megabytes("VmHWM") - peak, (path / "rank-0.pt").stat().st_size / 1e6)
anonymous = megabytes("RssAnon")
state = checkpoint.read(path, "rank-0", mapped=True)
replays[1].load_state_dict(state)
print(megabytes("RssAnon") - anonymous, len(replays[1]))
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    (saving, file), (restoring, count) = (map(float, line.split()) for line in done.stdout.splitlines())
    assert saving < 30 and 145 < file < 160, "megabytes"
    assert restoring < 180 and count == 4 * (5_250 - 1)
