"""Filling blanks: what is hidden, what is learned from it, and that a run goes on exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import aibig
from aibig.config.run_config import load_config
from aibig.data.text.mask_tokens import mask_tokens
from aibig.errors import UserError
from aibig.inference.predictor import load_predictor
from aibig.runs.train import build

TEXT = "abcdefg" * 450  # windows of 16 begin with each of the letters
CONFIG: dict[str, Any] = {
    "model": {"name": "bert", "width": 32, "layers": 1, "heads": 2},
    "task": {"name": "masked_language_modelling"},
    "data": {"name": TEXT, "batch_size": 8, "context": 16},
    "optimizer": {"name": "muon", "lr": 1e-2},
    "trainer": {"max_steps": 300, "threads": 1, "eval_every": 1000},
}

MODELS = [CONFIG["model"], {"name": "lstm", "embedding": 16, "hidden": 32, "layers": 1, "bidirectional": True}]


def test_a_seventh_is_hidden_and_most_of_it_behind_the_blank() -> None:
    tokens = torch.arange(20).repeat(100, 10)  # (100, 200)
    shown, places, targets = mask_tokens(tokens, 99, 20, torch.Generator().manual_seed(0))
    flat = shown.flatten()
    assert len(places) == len(set(places.tolist())) == 100 * 30
    assert torch.equal(targets, tokens.flatten()[places])
    untouched = torch.ones(len(flat), dtype=torch.bool)
    untouched[places] = False
    assert torch.equal(flat[untouched], tokens.flatten()[untouched])
    blank, same = (flat[places] == 99).float().mean(), (flat[places] == targets).float().mean()
    assert 0.77 < blank < 0.83 and 0.08 < same < 0.13  # a tenth, and a twentieth of the tenth that is drawn


@pytest.mark.parametrize("model", MODELS)
def test_the_loss_is_the_cross_entropy_of_what_is_hidden(model: dict[str, Any]) -> None:
    _, task = build(load_config(CONFIG, {"model": model}))
    task.model.eval()
    batch = task.next_batch()
    shown, places, targets = batch.data
    logits, _ = task.model(shown)
    expected = F.cross_entropy(logits.flatten(0, 1)[places], targets)
    torch.testing.assert_close(task.loss(batch).value, expected)
    assert batch.weight == len(places)
    assert task.evaluate("validation") == task.evaluate("validation")


@pytest.mark.parametrize("model", MODELS)
def test_it_learns_and_fills_blanks(model: dict[str, Any], tmp_path: Path) -> None:
    run = aibig.train(CONFIG, {"model": model}, out=tmp_path / "run")
    assert run.result is not None and run.result["metrics"]["loss"] < 0.7  # 1.95 for seven letters alike
    (first, *_) = aibig.predict(run.path, "cdef[MASK]abcdefgab")
    assert first["token"] == "g" and first["probability"] > 0.5
    with pytest.raises(UserError, match=r"no \[MASK\] to fill"):
        aibig.predict(run.path, "abc")
    with pytest.raises(UserError, match="more than the model's context of 16"):
        load_predictor(run.path).next_tokens("[MASK]" + "a" * 20)
    (tmp_path / "other.txt").write_text(TEXT[:800])
    assert aibig.evaluate(run.path, tmp_path / "other.txt", report=False)["loss"] < 0.7


def test_stopping_and_resuming_changes_nothing(tmp_path: Path) -> None:
    weights = []
    for stops in ([37], [13, 37]):
        folder = tmp_path / str(len(stops))
        for number, steps in enumerate(stops):
            aibig.train(CONFIG, {"trainer.max_steps": steps}, out=folder, resume=number > 0)
        weights.append(aibig.load_model(folder).state_dict())
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_what_does_not_belong_together_is_refused() -> None:
    for name in ("gpt", "lstm"):
        with pytest.raises(UserError, match=f"a {name.title()} fills no blanks; take the model 'bert', or 'lstm' with"):
            build(load_config(CONFIG, {"model": {"name": name}}))
    both_ends = {"model": {"name": "lstm", "bidirectional": True}}
    with pytest.raises(UserError, match="a Lstm that is bidirectional sees the token that it should foretell"):
        build(load_config(CONFIG, {**both_ends, "task": {"name": "language_modelling"}}))
    with pytest.raises(UserError, match="can't read on"):
        aibig.create_model("lstm", vocab_size=9, bidirectional=True).generate(torch.zeros(1, 2, dtype=torch.long))
    with pytest.raises(UserError, match="carries no memory"):
        build(load_config(CONFIG, {"data.order": "stream"}))
