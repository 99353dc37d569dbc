"""A dry run builds everything, tells what the run would take, and leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from families import DQN, FAMILIES, NETS, train_command

import aibig
from aibig.runs import dry_run


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for a test."""
    monkeypatch.setattr(dry_run, "STEPS", 20)


@pytest.mark.parametrize("family", ["nets", "regression", "transformer", "dqn"])
def test_a_run_of_each_family_is_foreseen(family: str, tmp_path: Path) -> None:
    estimate = aibig.check(FAMILIES[family])
    assert not list(tmp_path.iterdir()), "something was written"
    result = aibig.train(FAMILIES[family]).result
    assert result is not None
    assert all(estimate[name] == result[name] for name in ("steps", "stopped_by", "parameters", "device", "precision"))
    (folder,) = Path("runs").iterdir()
    evaluations = [line for line in (folder / "metrics.jsonl").read_text().splitlines() if '"validation"' in line]
    assert estimate["evaluations"] == len(evaluations)
    sizes = [sum(file.stat().st_size for file in path.glob("*.pt")) for path in (folder / "checkpoints").glob("step-*")]
    assert estimate["checkpoint_bytes"] == pytest.approx(max(sizes), rel=0.15)
    taken = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and "metrics" not in path.name)
    assert taken < estimate["disk_bytes"] + 20_000 < 6 * taken
    assert estimate["seconds"] >= estimate["train_seconds"] > 0 and estimate["evaluation_seconds"] > 0


@pytest.mark.parametrize(
    ("config", "limits", "steps", "name"),
    [
        (NETS, {"trainer.max_steps": 100, "trainer.max_epochs": 2}, 74, "max_epochs"),
        (NETS, {"trainer.max_steps": 3}, 3, "max_steps"),
        (NETS, {"trainer.max_samples": 32 * 100}, 60, "max_steps"),
        (NETS, {"trainer.max_samples": 32 * 10}, 10, "max_samples"),
        (DQN, {"trainer.max_env_steps": 180}, 40, "max_env_steps"),
    ],
)
def test_the_limit_that_comes_first_is_foreseen(
    config: dict[str, Any], limits: dict[str, Any], steps: int, name: str
) -> None:
    estimate = aibig.check(config, limits)
    assert estimate["stopped_by"] == name and estimate["steps"] == pytest.approx(steps, abs=1)


def test_a_limit_of_time_is_foreseen() -> None:
    estimate = aibig.check(NETS, {"trainer.max_steps": 10**9, "trainer.max_minutes": 0.1})
    assert estimate["stopped_by"] == "max_minutes" and estimate["train_seconds"] == pytest.approx(6.0, rel=0.01)


def test_an_evaluation_that_takes_long_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "EVALUATION_SECONDS", 0.0)
    estimate = aibig.check(NETS)
    assert estimate["evaluation_seconds"] is None and "each is long" in dry_run.format_estimate(estimate)


def test_what_a_run_would_be_refused_for_a_dry_run_is_refused_for() -> None:
    with pytest.raises(aibig.UserError, match="did you mean 'accuracy'"):
        aibig.check(NETS, {"trainer.best_metric": "acuracy"})
    with pytest.raises(aibig.UserError, match="no validation split"):
        aibig.check(NETS, {"trainer.patience": 3, "data.validation_fraction": 0})


def test_the_command_prints_lines_or_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert train_command(["--config", "nets/digits", "--check", "trainer.max_steps=760"]) == 0
    assert "length      760 steps, ended by max_steps; " in capsys.readouterr().out
    assert train_command(["--config", "nets/digits", "--check", "--json", "trainer.max_steps=760"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 760
    assert not Path("runs").exists()
