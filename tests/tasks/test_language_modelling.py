"""Language modelling: state carries over from window to window, and evaluation equals one long pass."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import aibig
from aibig.data.text.text_data import TextData
from aibig.errors import UserError
from aibig.tasks.base import Context
from aibig.tasks.language_modelling import LanguageModelling

TEXT = "abcabd" * 60


def make_task(order: str, model: str = "lstm", **settings: Any) -> LanguageModelling:
    torch.manual_seed(0)
    data = TextData(TEXT, batch_size=2, context=8, order=order, validation_fraction=0.2)  # type: ignore[arg-type]
    return LanguageModelling(aibig.create_model(model, vocab_size=4), data, Context(seed=3), **settings)


def test_a_window_begins_with_the_state_after_the_one_before() -> None:
    task = make_task("stream")
    expected = None
    for number in range(task.windows.batches_per_epoch + 1):
        batch = task.next_batch()
        tokens, targets, state, _ = batch.data
        if number % task.windows.batches_per_epoch == 0:
            assert state is None, "an epoch begins without state"
        else:
            assert all(torch.equal(ours, theirs) for ours, theirs in zip(state, expected, strict=True))
            assert not any(tensor.requires_grad for tensor in state), "a gradient would flow into the past"
        logits, expected = task.model(tokens, None, state)
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


def test_evaluating_a_stream_equals_a_single_pass() -> None:
    task = make_task("stream")
    tokens = task.data.splits["test"]
    logits, _ = task.model(tokens[None, :-1])
    expected = F.cross_entropy(logits[0], tokens[1:]).item()
    assert task.evaluate("test")["loss"] == pytest.approx(expected, rel=1e-5)


def test_evaluating_windows_gives_the_mean_over_every_target() -> None:
    task = make_task("shuffled", "transformer")
    tokens = task.data.splits["test"]
    total = 0.0
    for start in range(0, len(tokens) - 1, 8):
        window = tokens[start : start + 9]
        logits, _ = task.model(window[None, :-1])
        total += F.cross_entropy(logits[0], window[1:], reduction="sum").item()
    assert task.evaluate("test")["loss"] == pytest.approx(total / (len(tokens) - 1), rel=1e-5)


class CountingModel(torch.nn.Module):
    """Logits that depend on how many tokens of the same document precede a token in its window."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.scores = torch.nn.Parameter(torch.randn(64, vocab_size))
        self.calls: list[torch.Tensor] = []

    def forward(
        self, tokens: torch.Tensor, lengths: None, state: None, document_ids: torch.Tensor | None = None
    ) -> Any:
        assert document_ids is not None and document_ids.shape == tokens.shape
        self.calls.append(document_ids)
        is_first = document_ids != document_ids.roll(1, 1)
        is_first[:, 0] = True
        positions = torch.arange(tokens.shape[1]).expand_as(tokens)
        return self.scores[positions - (positions * is_first).cummax(1).values], None


def test_documents_that_are_read_apart_have_ids_for_the_model() -> None:
    torch.manual_seed(0)
    data = TextData(["abc", "abcd", "ab"] * 40, batch_size=2, context=8, documents="apart")
    model = CountingModel(data.tokenizer.vocab_size)
    task = LanguageModelling(model, data, Context(seed=3))
    batch = task.next_batch()
    task.loss(batch)
    assert torch.equal(model.calls.pop(), batch.data[3])
    loss = task.evaluate("test")["loss"]
    tokens, boundaries = data.splits["test"], data.boundaries["test"]
    assert boundaries is not None
    ids = (torch.arange(len(tokens))[:, None] >= boundaries).sum(1)[:-1]
    assert torch.equal(torch.cat([document_ids.flatten() for document_ids in model.calls]), ids)
    preceding = [(ids[i // 8 * 8 : i] == ids[i]).sum() for i in range(len(ids))]
    assert loss == pytest.approx(F.cross_entropy(model.scores[preceding], tokens[1:]).item(), rel=1e-5)


def test_a_missing_split_has_no_metrics() -> None:
    data = TextData(TEXT, batch_size=2, context=8, validation_fraction=0.0)
    task = LanguageModelling(aibig.create_model("lstm", vocab_size=4), data, Context())
    assert task.evaluate("validation") == {} and task.evaluate("test")


def test_label_smoothing_and_z_loss_are_their_formulas() -> None:
    for settings, smoothing, z_loss in (({}, 0.0, 0.0), ({"label_smoothing": 0.2, "z_loss": 0.5}, 0.2, 0.5)):
        task = make_task("shuffled", "transformer", **settings)
        batch = task.next_batch()
        tokens, targets, *_ = batch.data
        logits = task.model(tokens)[0].flatten(0, 1)
        smoothed = F.cross_entropy(logits, targets.flatten(), label_smoothing=smoothing)
        loss = task.loss(batch)
        torch.testing.assert_close(loss.value, smoothed + z_loss * logits.logsumexp(1).square().mean())
        plain = F.cross_entropy(logits, targets.flatten())
        torch.testing.assert_close(loss.metrics.get("cross_entropy", loss.value), plain)
        loss.value.backward()
        assert task.model.head.weight.grad.isfinite().all()


def test_penalties_on_outputs_and_their_changes_are_their_formulas() -> None:
    task = make_task("stream", activation_penalty=2.0, slowness_penalty=3.0)
    batch = task.next_batch()
    tokens, targets, *_ = batch.data
    scores, _ = task.model(tokens, targets=targets)
    raw, dropped = scores.states
    penalties = 2.0 * dropped.square().mean() + 3.0 * (raw[:, 1:] - raw[:, :-1]).square().mean()
    torch.testing.assert_close(task.loss(batch).value, scores.cross_entropy.mean() + penalties)
    other = make_task("shuffled", "transformer", activation_penalty=1.0)
    with pytest.raises(UserError, match="a Transformer has no outputs to penalise"):
        other.loss(other.next_batch())


def test_a_model_that_only_returns_logits_can_be_trained_and_evaluated() -> None:
    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scores = torch.nn.Embedding(4, 4)

        def forward(self, tokens: torch.Tensor, lengths: Any = None, state: Any = None) -> tuple[torch.Tensor, Any]:
            return self.scores(tokens), None

    task = make_task("shuffled")
    task.model = Plain()
    batch = task.next_batch()
    expected = F.cross_entropy(task.model(batch.data[0])[0].flatten(0, 1), batch.data[1].flatten())
    torch.testing.assert_close(task.loss(batch).value, expected)
    assert task.evaluate("validation")["loss"] > 0


def test_samples_are_logged_and_change_nothing(tmp_path: Any) -> None:
    logs = []
    for sample_tokens in (0, 5):
        run = aibig.train(
            {
                "model": {"name": "transformer", "width": 8, "heads": 2, "layers": 1, "dropout": 0.1},
                "task": {"name": "language_modelling", "sample_tokens": sample_tokens, "sample_prompt": "abc"},
                "data": {"name": TEXT * 2, "batch_size": 2, "context": 8},
                "trainer": {"max_steps": 6, "eval_every": 3, "threads": 1},
            },
            out=tmp_path / str(sample_tokens),
        )
        logs.append([json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()])
    samples = [line["text"] for line in logs[1] if line["kind"] == "sample"]
    assert len(samples) == 2 and all(sample.startswith("abc|") and len(sample) == 9 for sample in samples)
    without, with_samples = ([line.get("loss") for line in log if line["kind"] == "validation"] for log in logs)
    assert without == with_samples
