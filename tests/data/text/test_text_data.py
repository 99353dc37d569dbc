"""Text: encoding and decoding, splits, and windows that use every token once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from aibig.config.registry import datasets
from aibig.data.bundled import python_docs
from aibig.data.text.text_data import ShuffledWindows, StreamWindows, TextData, read_text, split_into_windows
from aibig.data.text.tokenizer import make_tokenizer, tokenizer_from_dict
from aibig.errors import UserError

SAMPLE = "Größe: 12 €, naïve 日本語 🙂\n\ttabs  and   spaces\n" * 3


@pytest.mark.parametrize("kind", ["characters", "bytes", "bpe"])
def test_text_survives_tokens_and_saving(kind: str) -> None:
    tokenizer = make_tokenizer(kind, SAMPLE, 400)
    tokens = tokenizer.encode(SAMPLE)
    assert tokenizer.decode(tokens) == SAMPLE
    loaded = tokenizer_from_dict(tokenizer.to_dict())
    assert loaded.encode(SAMPLE).tolist() == tokens.tolist() and loaded.vocab_size == tokenizer.vocab_size
    assert tokens.min() >= 0 and tokens.max() < tokenizer.vocab_size


def test_words_keep_the_most_frequent_and_an_unknown() -> None:
    tokenizer = make_tokenizer("words", "a a a b b c", 3)
    assert tokenizer.vocab_size == 3
    assert tokenizer.decode(tokenizer.encode("b c a")) == "b <unk> a"


def test_a_character_outside_the_vocabulary_is_named() -> None:
    with pytest.raises(UserError, match=r"the character 'ż' \(position 2\)"):
        make_tokenizer("characters", "abc", 0).encode("abż")


def test_bytes_express_any_text_and_decode_any_bytes() -> None:
    tokenizer = make_tokenizer("bytes", "", 0)
    assert tokenizer.vocab_size == 256 and tokenizer.encode("aé").tolist() == [97, 195, 169]
    assert tokenizer.decode([97, 195, 98]) == "a\ufffdb"


def test_a_vocabulary_with_the_replacement_character_knows_all_others_as_that() -> None:
    tokenizer = make_tokenizer("characters", "abc\ufffd", 0)
    assert tokenizer.decode(tokenizer.encode("abż")) == "ab\ufffd"


def test_bpe_expresses_any_text() -> None:
    tokenizer = make_tokenizer("bpe", "plain words", 300)
    assert tokenizer.decode(tokenizer.encode("日本 \x00")) == "日本 \x00"


def test_splits_are_consecutive_and_complete() -> None:
    data = TextData(lambda: python_docs(), batch_size=4, context=16)
    text = "".join(data.tokenizer.decode(data.splits[name].tolist()) for name in ("train", "validation", "test"))
    assert text == python_docs()
    shares = [len(data.splits[name]) / len(text) for name in ("validation", "test")]
    assert shares == pytest.approx([0.05, 0.1], abs=1e-4)


@pytest.mark.parametrize("kind", [ShuffledWindows, StreamWindows])
@pytest.mark.parametrize("length", [500, 511, 514])
def test_targets_follow_tokens_and_no_token_comes_twice_an_epoch(kind: type, length: int) -> None:
    windows = kind(torch.arange(length), 4, 8, seed=3)
    for _ in range(3):
        read = []
        for _ in range(windows.batches_per_epoch):
            tokens, targets, *_ = windows.next()
            assert tokens.shape == targets.shape == (4, 8)
            assert torch.equal(targets, tokens + 1)
            read += tokens.flatten().tolist()
        assert len(set(read)) == len(read) > length - 8 * 4 - 2 * 8


def test_a_stream_continues_where_it_was() -> None:
    windows = StreamWindows(torch.arange(500), 4, 8, seed=3)
    next_tokens = None
    for number in range(windows.batches_per_epoch + 1):
        tokens, targets, continues_previous, _ = windows.next()
        assert continues_previous == (number % windows.batches_per_epoch != 0)
        if continues_previous:
            assert torch.equal(tokens[:, 0], next_tokens)
        next_tokens = targets[:, -1]


def test_windows_of_varied_length_read_a_segment_once_and_their_number_is_known() -> None:
    windows = StreamWindows(torch.arange(200_000), 4, 70, seed=3, vary_context=True)
    lengths: list[list[int]] = []
    for epoch in range(3):
        read, next_tokens = [], torch.empty(0)
        for number in range(windows.batches_per_epoch):
            tokens, targets, continues_previous, _ = windows.next()
            assert torch.equal(targets, tokens + 1) and continues_previous == (number > 0) and windows.epoch == epoch
            assert not continues_previous or torch.equal(tokens[:, 0], next_tokens)
            next_tokens = targets[:, -1]
            read.append(tokens)
        lengths.append([tokens.shape[1] for tokens in read])
        flat = torch.cat([tokens.flatten() for tokens in read])
        assert len(flat.unique()) == len(flat) > 200_000 - 4 * 70 - 2 * 70
    assert len({*map(tuple, lengths)}) == 3, "each epoch has lengths of its own"
    flat = torch.tensor(lengths, dtype=torch.float).flatten()
    is_short = flat < 52.5
    assert flat.min() >= 4 and 0.03 < is_short.float().mean() < 0.07
    assert flat[~is_short].mean() == pytest.approx(70, abs=1) and flat[~is_short].std() == pytest.approx(5, abs=0.5)
    assert flat[is_short].mean() == pytest.approx(35, abs=2)


def test_windows_of_varied_length_resume_in_the_middle_of_an_epoch() -> None:
    arguments = (torch.arange(20_000), 4, 70, 3)
    windows = StreamWindows(*arguments, vary_context=True)
    for _ in range(windows.batches_per_epoch + 5):
        windows.next()
    resumed = StreamWindows(*arguments, vary_context=True)
    resumed.load_state_dict(windows.state_dict())
    for _ in range(windows.batches_per_epoch):
        assert torch.equal(windows.next().tokens, resumed.next().tokens)
    with pytest.raises(UserError, match=r"vary_context is for a stream; set data\.order=stream"):
        TextData("abcdefgh" * 100, batch_size=2, context=16, vary_context=True)


@pytest.mark.parametrize("order", ["shuffled", "stream"])
@pytest.mark.parametrize("tokenizer", ["characters", "bpe"])
def test_windows_say_which_document_a_token_is_of(order: Any, tokenizer: Any) -> None:
    texts = [chr(ord("a") + number) * (5 + number % 7) for number in range(26)] * 10
    data = TextData(
        texts, batch_size=2, context=16, documents="apart", order=order, tokenizer=tokenizer, vocab_size=257
    )
    separator = data.tokenizer.eos_token_id if tokenizer == "bpe" else data.tokenizer.encode("\n")[0]
    separator_length = 1 if tokenizer == "bpe" else 2
    windows = data.training_windows(3, 0, 1)
    for _ in range(windows.batches_per_epoch):
        tokens, _, _, document_ids = windows.next()
        assert document_ids is not None and document_ids.shape == tokens.shape
        for row, row_ids in zip(tokens, document_ids, strict=True):
            for document_id in row_ids.unique():
                document = row[row_ids == document_id]
                assert len(set(document.tolist()) - {int(separator)}) <= 1, "two documents with the same id"
                assert not (document[separator_length:] == separator).any(), "a separator begins the second document"
    assert (
        data.boundaries["test"] is not None
        and data.boundaries["test"].min() > 0
        and data.boundaries["test"].max() < len(data.splits["test"])
    )
    assert TextData(texts, batch_size=2, context=16, order=order).training_windows(3, 0, 1).next().document_ids is None


def test_an_end_of_text_token_written_in_a_file_is_a_document_boundary() -> None:
    data = TextData(
        ["a<|endoftext|>b", "c"] * 200, batch_size=2, context=8, tokenizer="bpe", documents="apart", vocab_size=257
    )
    assert data.boundaries["train"] is not None
    assert len(data.boundaries["train"]) == (data.splits["train"] == data.tokenizer.eos_token_id).sum()


@pytest.mark.parametrize("kind", [ShuffledWindows, StreamWindows])
def test_ranks_together_read_what_a_single_rank_would(kind: type) -> None:
    alone = kind(torch.arange(500), 4, 8, seed=3)
    ranks = [kind(torch.arange(500), 4, 8, seed=3, rank=rank, world_size=2) for rank in range(2)]
    for _ in range(20):
        tokens = torch.cat([rank.next().tokens for rank in ranks])
        assert sorted(tokens.tolist()) == sorted(alone.next().tokens.tolist())


def test_evaluation_has_every_token_but_the_first_as_a_target_once() -> None:
    data = TextData("abcdefgh" * 100, batch_size=2, context=16)
    tokens, targets, rest = split_into_windows(data.splits["test"], data.context)
    all_targets = torch.cat([targets.flatten(), rest[1:]])
    assert torch.equal(all_targets, data.splits["test"][1:])
    assert torch.equal(tokens.flatten()[1:], targets.flatten()[:-1])


def test_a_folder_is_its_files_by_path_with_a_blank_line_between(tmp_path: Path) -> None:
    for name, content in {"b.txt": "second", "a/z.txt": "first", "c.md": "no", "d.txt": "third"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    config = {"path": str(tmp_path), "batch_size": 1, "context": 3, "validation_fraction": 0.0, "test_fraction": 0.0}
    from_folder = datasets.create("text", **config)
    assert from_folder.tokenizer.decode(from_folder.splits["train"].tolist()) == "first\n\nsecond\n\nthird"
    from_python = TextData((text for text in ("first", "second", "third")), batch_size=1, context=3)
    assert from_python.tokenizer.decode(from_python.splits["train"].tolist()).startswith("first\n\nsec")


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("naïve".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin.txt: is not UTF-8 text \(byte 2\)"):
        list(read_text(path=str(tmp_path / "latin.txt")))
    (tmp_path / "void.txt").write_text(" \n")
    with pytest.raises(UserError, match=r"void\.txt: is empty"):
        list(read_text(path=str(tmp_path / "void.txt")))
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"folder: has no \.txt, \.jsonl, \.parquet file"):
        list(read_text(path=str(tmp_path / "folder")))
    with pytest.raises(UserError, match=r"latin.txt: is not UTF-8 text \(byte 2\)"):
        list(read_text(path=str(tmp_path)))
    with pytest.raises(UserError, match="too few for a batch"):
        TextData("one line\n", batch_size=2, context=16)
    with pytest.raises(UserError, match="too few for a batch"):
        TextData("", batch_size=2, context=16)
