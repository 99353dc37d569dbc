"""Each family learns: thresholds that a broken gradient, optimizer, target or shuffle does not reach."""

from __future__ import annotations

from pathlib import Path

import pytest
from families import REVIEWS

import aibig


def metrics_of(config: str | dict, out: Path, **overrides: object) -> dict[str, float]:
    """The test metrics of a run."""
    result = aibig.train(config, overrides, out=out).result
    assert result is not None
    found: dict[str, float] = result["metrics"]
    return found


def test_net_reads_digits(tmp_path: Path) -> None:
    assert metrics_of("nets/digits", tmp_path / "run", seed=7)["accuracy"] > 0.96


def test_net_predicts_diabetes_better_than_the_mean(tmp_path: Path) -> None:
    config = {
        "model": {"name": "net", "hidden": 16},
        "task": {"name": "regression"},
        "data": {"name": "diabetes", "batch_size": 32},
        "optimizer": {"name": "adamw", "lr": 3e-3},
        "trainer": {"max_epochs": 30},
    }
    assert metrics_of(config, tmp_path / "run")["r2"] > 0.3


@pytest.mark.parametrize(("model", "order"), [("lstm", "stream"), ("transformer", "shuffled")])
def test_language_models_learn_a_refrain(model: str, order: str, tmp_path: Path, tiny_text: Path) -> None:
    config = {
        "model": {"name": model},
        "task": {"name": "language_modelling"},
        "data": {"name": "text", "path": str(tiny_text), "batch_size": 8, "context": 32, "order": order},
        "optimizer": {"name": "adamw", "lr": 1e-2 if model == "lstm" else 3e-3},
        "trainer": {"max_steps": 120, "clip_norm": 1.0},
    }
    # Letters drawn by their frequency alone would cost 3.0 nats; a window's first letters can't be known.
    assert metrics_of(config, tmp_path / "run")["loss"] < 0.25


@pytest.mark.parametrize("model", ["lstm", "transformer"])
def test_texts_are_told_apart_by_their_last_word(model: str, tmp_path: Path) -> None:
    """Sentences of 4 to 31 words with many of either kind, of which the last one counts."""
    config = {
        "model": {"name": model, "layers": 1},
        "task": {"name": "text_classification"},
        "data": {"name": "text_labels", "path": str(REVIEWS), "batch_size": 16},
        "optimizer": {"name": "adamw", "lr": 5e-3},
        "trainer": {"max_steps": 150, "clip_norm": 1.0},
    }
    assert metrics_of(config, tmp_path / "run")["accuracy"] > 0.99


def test_memory_is_worth_something(tmp_path: Path) -> None:
    """A text in which what follows is decided by what stood in the window before: evaluation carries memory too."""
    text = tmp_path / "far.txt"
    import random

    generator = random.Random(0)
    text.write_text("".join(letter + "-" * 15 + letter * 16 for letter in generator.choices("abcdefgh", k=600)))
    config = {
        "model": {"name": "lstm", "hidden": 64, "layers": 1},
        "task": {"name": "language_modelling"},
        "data": {"name": "text", "path": str(text), "batch_size": 8, "context": 16},
        "optimizer": {"name": "adamw", "lr": 1e-2},
        "trainer": {"max_steps": 600, "clip_norm": 1.0},
    }
    carried = metrics_of(config, tmp_path / "stream", **{"data.order": "stream"})["loss"]
    forgotten = metrics_of(config, tmp_path / "shuffled", **{"data.order": "shuffled"})["loss"]
    assert carried < forgotten - 0.03


def test_dqn_balances_the_pole(tmp_path: Path) -> None:
    assert metrics_of("dqn/cartpole", tmp_path / "run", seed=7)["mean_return"] > 400  # at random: 22
