"""A run stopped anywhere and resumed is the run that was never stopped, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, NETS
from safetensors.torch import load_file

import aibig
from aibig.data.arrays import ArrayData, Arrays
from aibig.tasks.supervised import Classification
from aibig.training.checkpoints.checkpoint import newest_valid, read

TIMES = ("seconds", "_per_second", "memory_gb")  # what may differ between two runs


def train_in_two_parts(config: dict[str, Any], stop_at: int, folder: Path) -> None:
    """Stop as Ctrl-C does after update `stop_at`, then resume."""
    from aibig.training.trainer import Trainer

    train_step = Trainer._train_step

    def step_then_signal(self: Trainer) -> None:
        train_step(self)
        if self.progress.step == stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_train_step", step_then_signal)
        stopped = aibig.train(config, out=folder)
    assert stopped.result is None and not (folder / "result.json").exists()
    assert aibig.train(config, out=folder, resume=True).result is not None


def assert_same_run(run: Path, other: Path) -> None:
    """Same weights, same log but for times, same result, same final state of everything."""
    weights, others = (load_file(folder / "model" / "weights.safetensors") for folder in (run, other))
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert lines(run) == lines(other)
    results = [json.loads((folder / "result.json").read_text())["metrics"] for folder in (run, other)]
    assert results[0] == results[1]
    states = [newest_valid(folder / "checkpoints", print) for folder in (run, other)]
    assert states[0] is not None and states[1] is not None and states[0].name == states[1].name
    for name in ("shared", "rank-0"):
        assert_equal(read(states[0], name), read(states[1], name), name)


def lines(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what depends on the clock."""
    read_lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.endswith(TIMES)} for line in read_lines]


def assert_equal(value: Any, other: Any, path: str) -> None:
    """Nested tensors and plain values, bit for bit; times, and what other checkpoints there are, aside."""
    if path.endswith(("seconds", "best_steps")):
        return
    if isinstance(value, torch.Tensor):
        assert torch.equal(value, other), path
    elif isinstance(value, dict):
        assert value.keys() == other.keys(), path
        for key in value:
            assert_equal(value[key], other[key], f"{path}.{key}")
    elif isinstance(value, list | tuple):
        assert len(value) == len(other), path
        for number, (left, right) in enumerate(zip(value, other, strict=True)):
            assert_equal(left, right, f"{path}.{number}")
    else:
        assert value == other, path


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_stopping_and_resuming_changes_nothing(family: str, precision: str, tmp_path: Path) -> None:
    config = {**FAMILIES[family], "trainer": {**FAMILIES[family]["trainer"], "precision": precision}}
    aibig.train(config, out=tmp_path / "whole")
    train_in_two_parts(config, 37, tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("family", ["nets", "transformer"])
def test_fp16_with_gradient_scaler_resumes_exactly(family: str, tmp_path: Path) -> None:
    config = {**FAMILIES[family], "trainer": {**FAMILIES[family]["trainer"], "precision": "fp16"}}
    aibig.train(config, out=tmp_path / "whole")
    train_in_two_parts(config, 37, tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_resuming_on_cuda_is_exact_when_deterministic(
    family: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    extra = {"precision": precision, "deterministic": True, "device": "cuda"}
    config = {**FAMILIES[family], "trainer": {**FAMILIES[family]["trainer"], **extra}}
    aibig.train(config, out=tmp_path / "whole")
    train_in_two_parts(config, 37, tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_longer_limit_is_the_longer_run(tmp_path: Path) -> None:
    constant = {**NETS, "schedule": {"name": "constant"}}
    aibig.train(constant, out=tmp_path / "whole")
    aibig.train(constant, {"trainer.max_steps": 33}, out=tmp_path / "parts")
    aibig.train(constant, out=tmp_path / "parts", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_kill_minus_9_loses_only_what_follows_the_last_checkpoint(tmp_path: Path) -> None:
    settings = ["trainer.max_steps=1500", "trainer.save_every=50", "trainer.log_every=10", "trainer.eval_every=500"]
    command = [sys.executable, "-m", "aibig.train", "--config", "nets/digits", "trainer.max_epochs=null", *settings]
    process = subprocess.Popen([*command, "--out", "killed"], cwd=tmp_path)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("killed/checkpoints/step-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    subprocess.run([*command, "--out", "killed", "--resume"], cwd=tmp_path, check=True, capture_output=True)
    subprocess.run([*command, "--out", "whole"], cwd=tmp_path, check=True, capture_output=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [({"optimizer.lr": 1e-4}, "optimizer.lr"), ({"seed": 3}, "seed"), ({"model.hidden": 32}, "model.hidden")],
)
def test_resuming_as_another_run_is_refused(change: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    aibig.train(NETS, {"trainer.max_steps": 5}, out=tmp_path / "run")
    with pytest.raises(aibig.UserError, match=complaint):
        aibig.train(NETS, change, out=tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ({}, {"ema_decay": 0.9}, "has no weights of 'ema', this run has some; go on with the same trainer.ema_dec"),
        ({"ema_decay": 0.9}, {}, "has weights of 'ema', this run has none; go on with the same trainer.ema_decay"),
        ({"precision": "fp16"}, {}, "trainer.precision was fp16; go on with the same"),
    ],
)
def test_from_python_too_a_run_goes_on_with_the_same_settings_only(
    before: dict[str, Any], after: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    def fit(resume: bool, **settings: Any) -> None:
        data = ArrayData(
            Arrays(np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2, class_names=["a", "b"])
        )
        trainer = aibig.Trainer(max_steps=20 if resume else 10, save_every=10, device="cpu", **settings)
        task = Classification(aibig.create_model("net", in_features=3, out_features=2), data, trainer.context)
        trainer.fit(task, tmp_path, resume=resume)

    fit(False, **before)
    with pytest.raises(aibig.UserError, match=f"step-000000010: {complaint}"):
        fit(True, **after)


def test_a_finished_run_is_not_run_or_tested_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = aibig.train(NETS, out=tmp_path / "run")
    monkeypatch.setattr(Classification, "evaluate", lambda *_: pytest.fail("was evaluated again"))
    assert aibig.train(NETS, out=tmp_path / "run", resume=True).result == first.result
    assert aibig.train(out=tmp_path / "run", resume=True).result == first.result
    assert capsys.readouterr().err.count(f"{tmp_path / 'run'}: has ended before") == 2
    with pytest.raises(aibig.UserError, match="config is missing; to resume a run, set out=RUN and resume=True"):
        aibig.train(out=tmp_path / "run")


def test_an_extended_run_has_no_result_until_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aibig.training.trainer import Trainer

    folder = tmp_path / "run"
    aibig.train(NETS, {"trainer.max_steps": 40}, out=folder)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_should_stop", lambda self: os.kill(os.getpid(), signal.SIGINT) or True)
        assert aibig.train(NETS, out=folder, resume=True).result is None
    assert not (folder / "result.json").exists()
    result = aibig.train(NETS, out=folder, resume=True).result
    assert result is not None and result["steps"] == 60


def test_resuming_on_other_data_is_refused(tmp_path: Path, tiny_text: Path) -> None:
    config = {
        "model": {"name": "lstm"},
        "task": {"name": "language_modelling"},
        "data": {"name": "text", "path": str(tiny_text), "batch_size": 4, "context": 16},
        "trainer": {"max_steps": 3},
    }
    aibig.train(config, out=tmp_path / "run")
    text = tiny_text.read_text()
    tiny_text.write_text(text[1:] + text[:1])
    with pytest.raises(aibig.UserError, match="are not those that the run began with"):
        aibig.train(config, {"trainer.max_steps": 6}, out=tmp_path / "run", resume=True)
