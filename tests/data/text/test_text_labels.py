"""Sentences with labels: reading, splitting, batching and padding, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import aibig
from aibig.config.registry import datasets
from aibig.data.text.text_labels import (
    LabelledTexts,
    LengthGroupedOrder,
    TextTable,
    read_table,
    read_text_labels,
)
from aibig.errors import UserError


def write(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def reviews(count: int = 60) -> TextTable:
    """Sentences of 1 to 12 words, every third of them bad."""
    texts = [f"{'bad' if row % 3 == 0 else 'good'} {'very ' * (row % 12)}".strip() for row in range(count)]
    return TextTable(texts, ["-" if row % 3 == 0 else "+" for row in range(count)])


@pytest.mark.parametrize(
    ("content", "settings"),
    [
        ("so good\t1\nso bad\t0\n\nfine\t1\nawful\t0\n", {}),
        ("sentence\tlabel\nso good\t1\nso bad\t0\nfine\t1\nawful\t0\n", {}),
        (
            "\ufeffid,label,text\r\n7,1,so good\r\n8,0,so bad\r\n9,1,fine\r\n9,0,awful",
            {"text": "text", "label": "label"},
        ),
        ('1,"so good"\n0,so bad\n1,"fine"\n0,awful\n', {"text": 2, "label": 1}),
    ],
)
def test_tables_of_several_formats_are_read_alike(content: str, settings: dict[str, Any], tmp_path: Path) -> None:
    table = read_text_labels(path=write(tmp_path, "x", content), **settings)["train"]
    assert table.texts == ["so good", "so bad", "fine", "awful"] and table.labels == ["1", "0", "1", "0"]


def test_quotation_marks_count_only_between_commas(tmp_path: Path) -> None:
    tabs = read_table(write(tmp_path, "x.tsv", '"a, b" said\tyes\n"\tno\nb\tyes\nc\tno\n'), 1, 2)
    assert tabs.texts[:2] == ['"a, b" said', '"'] and tabs.labels[:2] == ["yes", "no"]
    commas = read_table(write(tmp_path, "x.csv", '"a, ""b""\nc",yes\nd,no\nd,no\nd,yes\n'), 1, 2)
    assert commas.texts[0] == 'a, "b"\nc' and commas.locations[1].endswith("x.csv:3")


@pytest.mark.parametrize(
    ("content", "settings", "complaint"),
    [
        ("", {}, "x: is empty"),
        ("good\t1\nbad\n", {}, r"x:2: has no label \(column 2 of 1\)"),
        ("good\t1\n \t0\n", {}, r"x:2: has no sentence \(column 1 of 2\)"),
        ("good\t1\nna\xefve\t0\n".encode("latin-1"), {}, r"x: is not UTF-8 text \(byte 9\)"),
        ("good\t1\nfine\t1\n", {}, "x:1: all labels are '1'"),
        ("txt\tlabel\n", {"text": "text"}, "x:1: has no column 'text'; did you mean 'txt'?"),
        ("text\tlabel\n", {"text": "text"}, "x: has a header and no sentences"),
        ("a\t1\nb\t1\nc\t1\nd\t0\ne\t1\n", {"test_fraction": 0.4}, "can't be split"),
    ],
)
def test_what_cannot_be_used_is_named(content: Any, settings: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        datasets.create("text_labels", path=write(tmp_path, "x", content), **settings)
    assert "\n" not in str(caught.value)


def test_a_language_model_reads_the_sentences_with_the_vocabulary_of_their_classifier(tmp_path: Path) -> None:
    table = write(tmp_path, "x.tsv", "So good\t1\nso bad\t0\nGood and fine\t1\nawful\t0\n" * 3)
    read: dict[str, Any] = {"path": table, "tokenizer": "words"}
    text = datasets.create("sentences", **read, batch_size=1, context=2)
    labelled = datasets.create("text_labels", **read, validation_path=table, test_path=table)
    assert text.tokenizer.to_dict() == labelled.preprocessor.tokenizer.to_dict()
    tokens = torch.cat(list(text.splits.values()))
    assert text.tokenizer.decode(tokens[:7].tolist()) == "so good so bad good and fine"


def test_missing_splits_are_split_off_in_proportion(tmp_path: Path) -> None:
    train = write(tmp_path, "train.tsv", "".join(f"word{row} x\t{row % 2}\n" for row in range(100)))
    test = write(tmp_path, "test.tsv", "unheard of\t1\n")
    data = datasets.create("text_labels", path=train, test_path=test, validation_fraction=0.2)
    assert {name: len(split.targets) for name, split in data.splits.items()} == {
        "train": 80,
        "validation": 20,
        "test": 1,
    }
    assert data.splits["validation"].targets.sum() == 10
    assert "the test split has no sentence of class '0'" in data.notes
    with pytest.raises(UserError, match=r"test.tsv:2: the label is 'maybe', which is none of the classes of training"):
        datasets.create("text_labels", path=train, test_path=write(tmp_path, "test.tsv", "a\t1\nb\tmaybe\n"))


@pytest.mark.parametrize("tokenizer", ["words", "characters", "bytes", "bpe"])
def test_vocabulary_is_that_of_the_training_split_alone(tokenizer: str) -> None:
    table, other = reviews(), TextTable(["über", "GOOD"], ["+", "-"])
    data = LabelledTexts({"train": table, "validation": other}, tokenizer=tokenizer, test_fraction=0.0)
    known = {"words": 4, "characters": 12, "bytes": 256}  # "good bad very", an unknown one
    assert tokenizer == "bpe" or data.preprocessor.tokenizer.vocab_size == known[tokenizer]
    tokens, lengths = data.splits["validation"].sentences.batch(torch.tensor([0, 1]))
    if tokenizer == "words":
        assert lengths.tolist() == [1, 1] and tokens[0].item() == 0, "what training lacks is the unknown word"
    assert data.preprocessor.tokenizer.decode(tokens[1, : lengths[1]].tolist()) == "good"


def test_long_sentences_are_truncated_and_counted() -> None:
    data = LabelledTexts({"train": reviews()}, max_tokens=5, test_fraction=0.0, validation_fraction=0.0)
    assert data.splits["train"].sentences.lengths.max() == 5
    assert "the train split has 35 sentences of more than 5 tokens: truncated" in data.notes


def test_an_epoch_has_every_sentence_once_with_little_padding() -> None:
    data = LabelledTexts({"train": reviews(1000)}, batch_size=16, test_fraction=0.0, validation_fraction=0.0)
    batches = data.training_batches(3, 0, 1)
    train, epochs = data.splits["train"], []
    for _ in range(2):
        read, real, padded = [], 0, 0
        for _ in range(batches.per_epoch):
            (tokens, lengths), targets, size = batches.next()
            assert size == len(tokens) == len(targets) and tokens.shape[1] == lengths.max()
            for row, length, target in zip(tokens, lengths.tolist(), targets.tolist(), strict=True):
                assert not row[length:].any()
                assert data.class_names[target] == (
                    "-" if "bad" in data.preprocessor.tokenizer.decode(row[:1].tolist()) else "+"
                )
                read.append(tuple(row[:length].tolist()))
            real, padded = real + int(lengths.sum()), padded + tokens.numel()
        expected = [tuple(train.sentences.batch(torch.tensor([row]))[0][0].tolist()) for row in range(1000)]
        assert sorted(read) == sorted(expected) and real / padded > 0.95
        epochs.append(read)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize(("rows", "batch_size"), [(103, 8), (5, 8), (8, 8)])
def test_order_is_a_function_of_seed_and_epoch_and_its_state_is_two_numbers(rows: int, batch_size: int) -> None:
    lengths = torch.arange(rows) % 7 + 1
    order = LengthGroupedOrder(lengths, batch_size, seed=1)
    epochs, states = [], []
    for _ in range(3):
        epochs.append([order.next()[0].tolist() for _ in range(order.batches_per_epoch)])
        states.append(order.state_dict())
        assert sorted(row for batch in epochs[-1] for row in batch) == list(range(rows))
    assert epochs[0] != epochs[1]
    resumed = LengthGroupedOrder(lengths, batch_size, seed=1)
    resumed.load_state_dict(states[1])
    assert [resumed.next()[0].tolist() for _ in range(order.batches_per_epoch)] == epochs[2]
    assert LengthGroupedOrder(lengths, batch_size, seed=2).next()[0].tolist() != epochs[0][0]


def test_ranks_share_each_batch() -> None:
    lengths = torch.arange(50) % 7 + 1
    alone, ranks = LengthGroupedOrder(lengths, 8, 3), [LengthGroupedOrder(lengths, 8, 3, rank, 2) for rank in range(2)]
    for _ in range(2 * alone.batches_per_epoch):
        assert sorted(torch.cat([order.next()[0] for order in ranks]).tolist()) == sorted(alone.next()[0].tolist())


@pytest.mark.parametrize(
    "settings", [{"name": "lstm"}, {"name": "lstm", "bidirectional": True}, {"name": "transformer", "causal": False}]
)
@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_the_loss_never_sees_the_padding(settings: dict[str, Any], pooling: str) -> None:
    from aibig.tasks.base import Batch, Context
    from aibig.tasks.text_classification import TextClassification

    data = LabelledTexts({"train": reviews()}, batch_size=24)
    torch.manual_seed(0)
    arguments = {**settings, "pooling": pooling}
    task = TextClassification(
        aibig.create_model(arguments.pop("name"), vocab_size=9, num_classes=2, **arguments), data, Context()
    )
    (tokens, lengths), targets = task.next_batch().data
    tokens = torch.nn.functional.pad(tokens, (0, 3))
    losses = []
    for padding in (0, 1, 8):
        filled = tokens.clone()
        for row, length in enumerate(lengths.tolist()):
            filled[row, length:] = padding
        losses.append(task.loss(Batch(((filled, lengths), targets), len(targets), {})).value)
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(losses[0], losses[2])


def test_texts_and_models_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "x.tsv", "".join(f"word {row}\t{row % 2}\n" for row in range(60)))
    config: dict[str, Any] = {
        "model": {"name": "net"},
        "task": {"name": "text_classification"},
        "data": {"name": "text_labels", "path": path},
        "trainer": {"max_steps": 1},
    }
    with pytest.raises(UserError, match="'net' does not support text inputs"):
        aibig.train(config)
    with pytest.raises(UserError, match="has no texts with labels; use the task 'classification'"):
        aibig.train({**config, "model": {"name": "lstm"}, "data": {"name": "digits"}})
    with pytest.raises(UserError, match="causal: a language model must be"):
        aibig.create_model("transformer", vocab_size=3, causal=False)
