"""The learning-rate finder: what it suggests trains, and it leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from families import DQN, FAMILIES, NETS

import aibig
from aibig.cli import main
from aibig.runs.find_lr import smooth


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_asked(family: str, tmp_path: Path) -> None:
    curve = aibig.find_lr(FAMILIES[family], steps=12)
    assert not list(tmp_path.iterdir()), "something was written"
    assert 2 <= len(curve.rates) == len(curve.losses) == len(curve.smoothed) <= 12
    assert curve.rates == pytest.approx(np.geomspace(1e-6, 1.0, 12)[: len(curve.rates)])
    assert ("a target network that changes" in curve.note) == (FAMILIES[family] is DQN)


def test_the_suggestion_trains_and_what_is_far_off_does_not() -> None:
    curve = aibig.find_lr("nets/digits")
    assert curve.suggestion is not None and 1e-3 < curve.suggestion < 2e-2
    assert len(curve.rates) < 100, "it went on after the loss diverged"

    def accuracy(rate: float) -> float:
        result = aibig.train("nets/digits", {"optimizer.lr": rate, "trainer.max_epochs": 2}).result
        assert result is not None
        return float(result["metrics"]["accuracy"] or 0.0)

    assert accuracy(curve.suggestion) > 0.9 > max(accuracy(curve.suggestion / 100), accuracy(curve.suggestion * 1000))


def test_rates_that_do_not_train_give_no_suggestion() -> None:
    curve = aibig.find_lr(NETS, low=0.5, high=1e6, steps=20)
    assert curve.suggestion is None and curve.note == "no rate from 0.5 to 1e+06 lowered the loss"


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"low": 1.0, "high": 0.1}, "low 1 must be below high 0.1"),
        ({"steps": 0}, "steps must be a whole number, at least 1"),
        ({"plot": "lr.doc"}, "ends with .svg or .png"),
        ({"plot": "nowhere/lr.svg"}, "nowhere/lr.svg: there is no folder nowhere"),
    ],
)
def test_what_cannot_be_asked_is_refused(settings: dict[str, float], complaint: str) -> None:
    with pytest.raises(aibig.UserError, match=complaint):
        aibig.find_lr(NETS, **settings)


def test_smoothing_does_not_lag() -> None:
    values = np.abs(np.arange(41.0) - 20)
    assert smooth(values, 3.0).argmin() == 20 and smooth(np.full(9, 2.0), 2.0) == pytest.approx(2.0)


@pytest.mark.parametrize("plot", ["lr.svg", "lr.png"])
def test_the_command_says_what_to_set_and_plots(plot: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["find-lr", "--config", "nets/digits", "--steps", "50", "--out", plot]) == 0
    out = capsys.readouterr().out
    assert out.startswith("suggestion: optimizer.lr=0.0") and out.endswith(f"plot: {plot}\n")
    assert Path(plot).stat().st_size > 5_000 and not Path("runs").exists()
    assert main(["find-lr", "--config", "nets/digits", "--steps", "20", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"suggestion", "note", "rates", "losses", "smoothed"}
