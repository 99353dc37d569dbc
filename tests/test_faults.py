"""Whatever goes wrong while a run runs, nothing of the user's is lost and the user is told what to do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from families import LSTM, NETS, train_command

import aibig
from aibig.training.checkpoints import checkpoint


def full_disk_from(call: int, until: int) -> Callable[[int], None]:
    """An `os.fsync` that finds the disk full from its `call`th call on, until it has room again."""
    calls = 0

    def fsync(handle: int) -> None:
        nonlocal calls
        calls += 1
        if call <= calls < until:
            raise OSError(28, "No space left on device")

    return fsync


def test_a_disk_that_is_full_for_a_while_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = aibig.train(NETS, {"trainer.save_every": 10}, out=tmp_path / "expected").result
    monkeypatch.setattr(os, "fsync", full_disk_from(15, until=25))
    run = aibig.train(NETS, {"trainer.save_every": 10}, out=tmp_path / "run")
    said = capsys.readouterr().err
    assert "No space left on device" in said and "free some space; the last valid checkpoint is of step" in said
    assert expected is not None and run.result is not None and run.result["metrics"] == expected["metrics"]
    assert checkpoint.newest_valid(run.path / "checkpoints", print) is not None


def test_a_disk_that_stays_full_still_gives_the_best_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = aibig.train(NETS, out=tmp_path / "expected").result
    write = checkpoint.try_to_write
    monkeypatch.setattr(checkpoint, "try_to_write", lambda *_: OSError(28, "No space left on device"))
    run = aibig.train(NETS, out=tmp_path / "run")
    monkeypatch.setattr(checkpoint, "try_to_write", write)
    assert expected is not None and run.result is not None
    assert run.result["metrics"] == expected["metrics"] and run.result["best_step"] == expected["best_step"]


def test_a_model_that_could_not_be_written_is_written_by_resuming(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    words = ["--config", "nets/digits", "trainer.max_epochs=2", "--out", "run"]
    with monkeypatch.context() as patch:
        patch.setattr("aibig.pretrained.model_folder.save_file", full)
        assert train_command(words) == 2
    said = capsys.readouterr().err
    assert "the model could not be written" in said and "python -m aibig.train --resume --out run" in said
    assert train_command(["--resume", "--out", "run"]) == 0
    assert train_command(["--config", "nets/digits", "trainer.max_epochs=2", "--out", "other"]) == 0
    results = [json.loads(Path(folder, "result.json").read_text())["metrics"] for folder in ("run", "other")]
    assert results[0] == results[1]


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aibig.train(LSTM, {"trainer.max_steps": 40, "trainer.save_every": 10}, out=tmp_path / "run")
    newest = max((tmp_path / "run" / "checkpoints").glob("step-*"))
    (newest / "shared.pt").write_bytes(b"scrap")
    resumed = aibig.train(LSTM, {"trainer.save_every": 10}, out=tmp_path / "run", resume=True)
    assert "falling back" in capsys.readouterr().err
    whole = aibig.train(LSTM, {"trainer.save_every": 10}, out=tmp_path / "whole")
    assert resumed.result is not None and whole.result is not None
    assert resumed.result["metrics"] == whole.result["metrics"]


def test_a_run_without_a_checkpoint_begins_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = aibig.train(NETS, out=tmp_path / "run").result
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        (path / "manifest.json").unlink()
    (tmp_path / "run" / "result.json").unlink()
    assert aibig.train(NETS, out=tmp_path / "run", resume=True).result is not None
    assert "starting from the beginning" in capsys.readouterr().err
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert expected is not None and result["metrics"] == expected["metrics"]


def test_a_line_that_a_kill_cut_off_is_mended_by_resuming(tmp_path: Path) -> None:
    aibig.train(NETS, {"trainer.max_steps": 40}, out=tmp_path / "run")
    log = tmp_path / "run" / "metrics.jsonl"
    with log.open("a") as file:
        file.write('{"kind": "train", "st')
    aibig.train(NETS, out=tmp_path / "run", resume=True)
    assert all(json.loads(line)["kind"] for line in log.read_text().splitlines())


def test_a_terminated_run_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "aibig.train", "--config", "nets/digits", "--out", "run"]
    settings = ["trainer.max_epochs=100000", "trainer.save_every=100000000", "trainer.eval_every=100000000"]
    process = subprocess.Popen(
        [*command, *settings], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err == "run: run\n"
    assert out == "interrupted; everything so far is kept; go on with: python -m aibig.train --resume --out run\n"
    assert checkpoint.newest_valid(tmp_path / "run" / "checkpoints", print) is not None


def test_numbers_that_stay_not_finite_end_the_run_and_keep_its_checkpoints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(aibig.UserError, match=r"updates in a row .*lower optimizer.lr.* are kept"):
        aibig.train(
            {**NETS, "optimizer": {"name": "sgd", "lr": 1e30}, "schedule": {"name": "constant"}},
            {"trainer.max_steps": 1000, "trainer.ema_decay": None, "trainer.save_every": 1},
            out=tmp_path / "run",
        )
    assert "updates were skipped" in capsys.readouterr().err
    assert checkpoint.newest_valid(tmp_path / "run" / "checkpoints", print) is not None


def test_importing_aibig_with_a_broken_torchvision_works(tmp_path: Path) -> None:
    broken = tmp_path / "torchvision"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    code = "import aibig; print(aibig.create_model('net'))"
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True).returncode == 0


def test_a_run_that_diverged_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config", "nets/digits", "optimizer.lr=1e10", "trainer.max_steps=50", "--out", "run"]
    assert train_command(words) == 2
    assert "the model diverged" in capsys.readouterr().err


def test_a_finished_run_without_checkpoints_is_not_begun_again_over_its_model(tmp_path: Path) -> None:
    import shutil

    aibig.train(NETS, {"trainer.max_steps": 5}, out=tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    before = (tmp_path / "run" / "model" / "weights.safetensors").read_bytes()
    with pytest.raises(aibig.UserError, match="has no checkpoints to go on from"):
        aibig.train(NETS, out=tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "model" / "weights.safetensors").read_bytes() == before


def test_after_falling_back_the_good_checkpoints_are_kept(tmp_path: Path) -> None:
    aibig.train(LSTM, {"trainer.max_steps": 40, "trainer.save_every": 10}, out=tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    (checkpoint.path_of(folder, 40) / "shared.pt").write_bytes(b"scrap")
    more = {"trainer.max_steps": 36, "trainer.save_every": 3, "trainer.keep_last": 1}
    aibig.train(LSTM, more, out=tmp_path / "run", resume=True)
    assert checkpoint.steps(folder)[-1] == 36
    assert all(checkpoint.find_damage(checkpoint.path_of(folder, step)) is None for step in checkpoint.steps(folder))
