"""Masked language modelling: what is masked, what is learned, and exact resuming."""

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


def test_15_percent_are_masked_and_most_of_them_by_the_mask_token() -> None:
    tokens = torch.arange(20).repeat(100, 10)  # (100, 200)
    masked, positions, targets = mask_tokens(tokens, 99, 20, torch.Generator().manual_seed(0))
    flat = masked.flatten()
    assert len(positions) == len(set(positions.tolist())) == 100 * 30
    assert torch.equal(targets, tokens.flatten()[positions])
    untouched = torch.ones(len(flat), dtype=torch.bool)
    untouched[positions] = False
    assert torch.equal(flat[untouched], tokens.flatten()[untouched])
    by_mask, unchanged = (flat[positions] == 99).float().mean(), (flat[positions] == targets).float().mean()
    assert 0.77 < by_mask < 0.83 and 0.08 < unchanged < 0.13  # a tenth, and a twentieth of the random tenth


@pytest.mark.parametrize("model", MODELS)
def test_the_loss_is_the_cross_entropy_of_the_masked_tokens(model: dict[str, Any]) -> None:
    _, task = build(load_config(CONFIG, {"model": model}))
    task.model.eval()
    batch = task.next_batch()
    tokens, positions, targets = batch.data
    logits, _ = task.model(tokens)
    expected = F.cross_entropy(logits.flatten(0, 1)[positions], targets)
    torch.testing.assert_close(task.loss(batch).value, expected)
    assert batch.weight == len(positions)
    assert task.evaluate("validation") == task.evaluate("validation")


@pytest.mark.parametrize("model", MODELS)
def test_it_learns_and_fills_masks(model: dict[str, Any], tmp_path: Path) -> None:
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
    for name, architecture in (("gpt", "Transformer"), ("lstm", "Lstm")):
        with pytest.raises(
            UserError, match=f"a {architecture} can't predict masked tokens; use the model 'bert', or 'lstm' with"
        ):
            build(load_config(CONFIG, {"model": {"name": name}}))
    bidirectional = {"model": {"name": "lstm", "bidirectional": True}}
    with pytest.raises(UserError, match="a bidirectional Lstm sees the token that it should predict"):
        build(load_config(CONFIG, {**bidirectional, "task": {"name": "language_modelling"}}))
    with pytest.raises(UserError, match="can't generate"):
        aibig.create_model("lstm", vocab_size=9, bidirectional=True).generate(torch.zeros(1, 2, dtype=torch.long))
    with pytest.raises(UserError, match="carries no state"):
        build(load_config(CONFIG, {"data.order": "stream"}))
