"""Language modelling: memory goes from window to window, and evaluation is that of one long reading."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

import aibig
from aibig.data.text import TextData
from aibig.tasks.base import Context
from aibig.tasks.language_modelling import LanguageModelling

TEXT = "abcabd" * 60


def make_task(order: str, model: str = "lstm") -> LanguageModelling:
    torch.manual_seed(0)
    data = TextData(TEXT, batch_size=2, context=8, order=order, validation_fraction=0.2)  # type: ignore[arg-type]
    return LanguageModelling(aibig.create_model(model, vocab_size=4), data, Context(seed=3))


def test_a_window_begins_with_the_memory_of_the_one_before() -> None:
    task = make_task("stream")
    before = None
    for number in range(task.windows.batches_per_epoch + 1):
        batch = task.next_batch()
        tokens, targets, memory, _ = batch.data
        if number % task.windows.batches_per_epoch == 0:
            assert memory is None, "an epoch begins without memory"
        else:
            assert all(torch.equal(ours, theirs) for ours, theirs in zip(memory, before, strict=True))
            assert not any(one.requires_grad for one in memory), "a gradient would flow into the past"
        logits, before = task.model(tokens, None, memory)
        loss = task.loss(batch)
        torch.testing.assert_close(loss.value, F.cross_entropy(logits.flatten(0, 1), targets.flatten()))
        task.after_loss(loss.carry)


@pytest.mark.parametrize("model", ["lstm", "transformer"])
def test_shuffled_windows_carry_nothing(model: str) -> None:
    task = make_task("shuffled", model)
    for _ in range(3):
        batch = task.next_batch()
        assert batch.data[2] is None
        task.after_loss(task.loss(batch).carry)


def test_evaluating_a_stream_is_reading_it_once_from_end_to_end() -> None:
    task = make_task("stream")
    tokens = task.data.parts["test"]
    logits, _ = task.model(tokens[None, :-1])
    expected = F.cross_entropy(logits[0], tokens[1:]).item()
    assert task.evaluate("test")["loss"] == pytest.approx(expected, rel=1e-5)


def test_evaluating_windows_is_the_mean_over_every_target() -> None:
    task = make_task("shuffled", "transformer")
    tokens = task.data.parts["test"]
    total = 0.0
    for start in range(0, len(tokens) - 1, 8):
        window = tokens[start : start + 9]
        logits, _ = task.model(window[None, :-1])
        total += F.cross_entropy(logits[0], window[1:], reduction="sum").item()
    assert task.evaluate("test")["loss"] == pytest.approx(total / (len(tokens) - 1), rel=1e-5)


class Counting(torch.nn.Module):
    """Foretells by how many tokens of its document stand before a token, as far as the window shows."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.scores = torch.nn.Parameter(torch.randn(64, vocab_size))
        self.seen: list[torch.Tensor] = []

    def forward(self, tokens: torch.Tensor, lengths: None, memory: None, documents: torch.Tensor | None = None) -> Any:
        assert documents is not None and documents.shape == tokens.shape
        self.seen.append(documents)
        begins = documents != documents.roll(1, 1)
        begins[:, 0] = True
        places = torch.arange(tokens.shape[1]).expand_as(tokens)
        return self.scores[places - (places * begins).cummax(1).values], None


def test_documents_that_stand_apart_are_told_to_the_model() -> None:
    torch.manual_seed(0)
    data = TextData(["abc", "abcd", "ab"] * 40, batch_size=2, context=8, documents="apart")
    model = Counting(data.tokenizer.vocab_size)
    task = LanguageModelling(model, data, Context(seed=3))
    batch = task.next_batch()
    task.loss(batch)
    assert torch.equal(model.seen.pop(), batch.data[3])
    loss = task.evaluate("test")["loss"]
    tokens, borders = data.parts["test"], data.borders["test"]
    assert borders is not None
    numbers = (torch.arange(len(tokens))[:, None] >= borders).sum(1)[:-1]
    assert torch.equal(torch.cat([one.flatten() for one in model.seen]), numbers)
    places = [(numbers[at // 8 * 8 : at] == numbers[at]).sum() for at in range(len(numbers))]
    assert loss == pytest.approx(F.cross_entropy(model.scores[places], tokens[1:]).item(), rel=1e-5)


def test_a_missing_part_has_no_metrics() -> None:
    data = TextData(TEXT, batch_size=2, context=8, validation_fraction=0.0)
    task = LanguageModelling(aibig.create_model("lstm", vocab_size=4), data, Context())
    assert task.evaluate("validation") == {} and task.evaluate("test")
