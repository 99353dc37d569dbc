"""Outcomes of evaluations: subsets, bootstrap intervals, and every built-in task has one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from families import FAMILIES, TRANSFORMER

from aibig.config.registry import create_model
from aibig.config.run_config import load_config
from aibig.data.text.text_data import TextData
from aibig.errors import UserError
from aibig.metrics.outcomes import (
    ClassificationOutcome,
    EpisodeOutcome,
    Outcome,
    RegressionOutcome,
    TokenOutcome,
    bootstrap,
)
from aibig.runs.train import build
from aibig.tasks.base import Context
from aibig.tasks.language_modelling import LanguageModelling

GENERATOR = np.random.default_rng(0)
OUTCOMES = {
    "classes": ClassificationOutcome(
        GENERATOR.dirichlet(np.ones(3), 40), GENERATOR.integers(3, size=40), ["a", "b", "c"]
    ),
    "values": RegressionOutcome(GENERATOR.normal(size=(40, 2)), GENERATOR.normal(size=(40, 2))),
    "tokens": TokenOutcome(GENERATOR.random(40), np.full(40, 8), np.full(40, 9)),
    "words": TokenOutcome(GENERATOR.random(40), np.full(40, 8)),
    "returns": EpisodeOutcome(GENERATOR.normal(size=40), GENERATOR.integers(1, 9, size=40)),
}


@pytest.mark.parametrize("kind", OUTCOMES)
def test_taking_all_rows_once_or_twice_changes_no_metric(kind: str) -> None:
    outcome = OUTCOMES[kind]
    rows = np.arange(40)
    assert len(outcome) == 40 and len(outcome.take(rows[:7])) == 7
    assert outcome.take(rows[::-1]).metrics() == pytest.approx(outcome.metrics())
    assert outcome.take(np.concatenate([rows, rows])).metrics() == pytest.approx(outcome.metrics())


@pytest.mark.parametrize("kind", OUTCOMES)
def test_intervals_surround_what_was_measured(kind: str) -> None:
    outcome = OUTCOMES[kind]
    intervals, narrower = bootstrap(outcome, samples=200), bootstrap(outcome, samples=200, level=0.5)
    metrics = outcome.metrics()
    assert list(intervals) == list(metrics)
    assert intervals == bootstrap(outcome, samples=200) != bootstrap(outcome, samples=200, seed=1)
    for name, (low, high) in intervals.items():
        assert low <= narrower[name][0] <= narrower[name][1] <= high
        if name != "calibration_error":  # biased upward, and more so in a resample
            assert low <= metrics[name] <= high


def test_an_interval_covers_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        outcome = EpisodeOutcome(generator.normal(size=60), np.ones(60, int))
        low, high = bootstrap(outcome, samples=200, level=0.9)["mean_return"]
        covered += low <= 0.0 <= high
    assert 80 <= covered <= 97  # of 100, expected 89 or so; the standard deviation is 3


def test_a_class_that_a_resample_lacks_spoils_no_interval() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    intervals = bootstrap(ClassificationOutcome(probabilities, np.array([0, 0, 1]), ["a", "b"]), samples=100)
    assert all(math.isfinite(bound) for pair in intervals.values() for bound in pair)


def test_one_row_has_no_interval() -> None:
    with pytest.raises(UserError, match="at least 2"):
        bootstrap(EpisodeOutcome(np.ones(1), np.ones(1, int)))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_task_has_an_outcome(family: str, tiny_text: Path) -> None:
    text = {"data.name": "text", "data.path": tiny_text} if family in ("lstm", "transformer") else {}
    trainer, task = build(load_config(FAMILIES[family], text))
    for split in ("validation", "test"):
        outcome = trainer.outcome(task, split)
        assert isinstance(outcome, Outcome)
        assert outcome.metrics() == task.evaluate(split)
        assert task.primary_metric in outcome.metrics()


@pytest.mark.parametrize(("tokenizer", "known"), [("characters", True), ("bpe", True), ("words", False)])
def test_bits_per_byte_count_the_bytes_of_the_text(tokenizer: str, known: bool) -> None:
    text = "Zürich, 東京 und Kraków: " * 200
    data = TextData(text, batch_size=2, context=8, tokenizer=tokenizer, vocab_size=300, test_fraction=0.5)
    model = create_model("transformer", vocab_size=data.tokenizer.vocab_size, context=8, width=8, layers=1, heads=1)
    task = LanguageModelling(model, data, Context(torch.device("cpu")))
    outcome = task.outcome("test")
    assert isinstance(outcome, TokenOutcome)
    assert ("bits_per_byte" in outcome.metrics()) == known
    if known:
        assert outcome.bytes is not None
        tokens = data.splits["test"].tolist()
        start = len(data.tokenizer.encode(text)) - len(tokens)
        first = data.tokenizer.byte_lengths()[tokens[0]]
        if tokenizer == "characters":
            assert outcome.bytes.sum() == len(text[start:].encode()) - first
        whole = data.tokenizer.byte_lengths()[data.tokenizer.encode(text)].sum()
        assert whole == len(text.encode())


def test_a_language_models_outcome_has_a_loss_for_each_window() -> None:
    _, task = build(load_config(TRANSFORMER))
    outcome = task.outcome("test")
    assert isinstance(outcome, TokenOutcome)
    assert outcome.tokens.sum() == len(task.data.splits["test"]) - 1
    assert set(outcome.tokens[:-1]) == {task.data.context}
