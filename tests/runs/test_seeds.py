"""Several seeds: as single runs are, with mean and spread, gone on with where they were stopped."""

from __future__ import annotations

import json
import os
import signal
import statistics
from pathlib import Path
from typing import Any

import pytest
from families import NETS, train_command

import aibig
from aibig.runs import seeds as seeds_module

WORDS = [
    "--config",
    "nets/digits",
    "trainer.max_epochs=1",
    "trainer.eval_every=20",
    "trainer.save_every=20",
    "model.hidden=8",
]


def contents(folder: str) -> dict[str, Any]:
    """seeds.json."""
    found: dict[str, Any] = json.loads(Path(folder, "seeds.json").read_text())
    return found


def test_mean_and_spread_of_runs_that_differ_by_their_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert train_command([*WORDS, "--seeds", "3", "seed=4"]) == 0
    out = capsys.readouterr().out
    folder = "runs/digits-seeds-0001"
    assert {path.name for path in Path(folder).iterdir()} == {"seed-4", "seed-5", "seed-6", "seeds.json"}
    settings = {"trainer.max_epochs": 1, "trainer.eval_every": 20, "trainer.save_every": 20, "model.hidden": 8}
    alone = aibig.train("nets/digits", {**settings, "seed": 5}).result
    found = contents(folder)
    assert alone is not None and found["values"]["5"] == alone["metrics"] and found["seeds"] == [4, 5, 6]
    values = [row["accuracy"] for row in found["values"].values()]
    accuracy = found["metrics"]["accuracy"]
    assert accuracy["mean"] == pytest.approx(sum(values) / 3) and len(set(values)) > 1
    assert accuracy["standard_deviation"] == pytest.approx(statistics.stdev(values))
    assert f"{accuracy['mean']:.4g} +- {accuracy['standard_deviation']:.2g}" in out and f"runs: {folder}\n" in out


def test_seeds_that_were_stopped_go_on_and_the_others_are_not_repeated(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from aibig.training.trainer import Trainer

    assert train_command([*WORDS, "--seeds", "3", "--out", "whole"]) == 0
    capsys.readouterr()
    update, fitted = Trainer._train_step, []

    def update_then_signal(self: Trainer) -> None:
        update(self)
        if self.context.seed == 1 and self.progress.step == 7:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", update_then_signal)
        assert train_command([*WORDS, "--seeds", "3", "--out", "parts"]) == 130
    again = "python -m aibig.train --resume --out parts\n"
    assert capsys.readouterr().out.endswith(again) and list(contents("parts")["values"]) == ["0"]
    fit = Trainer.fit
    monkeypatch.setattr(Trainer, "fit", lambda self, *a, **k: fitted.append(self.context.seed) or fit(self, *a, **k))
    assert train_command(again.split()[3:]) == 0
    assert fitted == [1, 2] and contents("parts") == contents("whole")
    assert train_command(["--resume", "--out", "parts", "--seeds", "4", "--json"]) == 0
    assert fitted == [1, 2, 3]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["seeds"] == [0, 1, 2, 3]


def test_a_seed_that_diverges_is_noted_and_the_others_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(config: Any, overrides: Any, **_: Any) -> Any:
        if overrides["seed"] == 1:
            raise aibig.errors.Diverged("step 125: 100 updates in a row")
        accuracy = None if overrides["seed"] == 2 else 0.5 + overrides["seed"]
        return type("Run", (), {"result": {"metrics": {"accuracy": accuracy}}})

    monkeypatch.setattr(seeds_module, "train", train)
    lines: list[str] = []
    runs = aibig.train_seeds(NETS, seeds=4, on_seed_end=lines.append)
    assert runs.diverged == [1, 2] and runs.metrics["accuracy"]["mean"] == 2.0 and runs.is_complete
    assert lines[1].startswith("seed 1: diverged: step 125") and lines[2] == "seed 2: accuracy not finite"


def test_what_cannot_begin_leaves_no_folder() -> None:
    with pytest.raises(aibig.UserError, match="leave it out"):
        aibig.train_seeds(NETS, {"model.out_features": 3})
    assert not list(Path("runs").iterdir())


def test_what_cannot_be_gone_on_with_costs_no_run_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    assert train_command([*WORDS, "--seeds", "2", "--out", "runs/kept"]) == 0
    before = contents("runs/kept")

    def failing(*_: Any, **__: Any) -> Any:
        raise aibig.UserError("the data are gone")

    monkeypatch.setattr(seeds_module, "train", failing)
    assert train_command([*WORDS, "--resume", "--seeds", "2", "--out", "runs/kept", "seed=7"]) == 2
    assert {path.name for path in Path("runs/kept").iterdir()} >= {"seed-0", "seed-1", "seeds.json"}
    assert before["values"] and Path("runs/kept/seed-1/model").is_dir()


def test_a_seed_that_really_diverges_is_a_diverged_one() -> None:
    wild = {**NETS, "optimizer": {"name": "sgd", "lr": 1e30}, "schedule": {"name": "constant"}}
    runs = aibig.train_seeds(wild, {"trainer.max_steps": 1000, "trainer.ema_decay": None}, seeds=1)
    assert runs.diverged == [0] and not runs.metrics and runs.is_complete
