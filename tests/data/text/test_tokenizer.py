"""Tokenizers that are loaded, and the fast path that gives the same tokens as the library."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

import aibig
from aibig.config.registry import datasets
from aibig.data.text import documents
from aibig.data.text import tokenizer as tokenizer_module
from aibig.data.text.text_data import TextData
from aibig.data.text.tokenizer import LibraryTokenizer, load_tokenizer, make_tokenizer
from aibig.errors import UserError

SAMPLE = "Größe: 12 €, naïve 日本語 🙂\n\ttabs  and   spaces\n" * 3


def byte_level(path: Path, **parts: Any) -> Library:
    """A tokenizer as published ones are: byte-level BPE with a start that is put before a text, saved at `path`."""
    make_tokenizer("bpe", SAMPLE, 300).save(path)
    library = Library.from_file(str(path))
    library.add_special_tokens(["<s>", "<|end_of_text|>"])
    library.add_tokens(["spaces"])
    library.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", library.token_to_id("<s>"))]
    )
    for name, part in parts.items():
        setattr(library, name, part)
    library.save(str(path))
    return library


@pytest.mark.parametrize("kind", ["characters", "bytes", "words", "bpe"])
def test_saved_tokenizers_are_loaded(kind: str, tmp_path: Path) -> None:
    trained = make_tokenizer(kind, SAMPLE, 300, with_eos_token=True)
    trained.save(tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert loaded.encode(SAMPLE).tolist() == trained.encode(SAMPLE).tolist() and loaded.vocab_size == trained.vocab_size
    assert loaded.eos_token_id == trained.eos_token_id and (loaded.eos_token_id is not None) == (kind == "bpe")
    if kind in ("words", "bpe"):  # as other programs read it
        assert Library.from_file(str(tmp_path / "tokenizer.json")).get_vocab_size() == trained.vocab_size


def test_a_loaded_tokenizer_adds_no_special_tokens_and_recognises_them(tmp_path: Path) -> None:
    library = byte_level(tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert loaded.eos_token_id == library.token_to_id("<|end_of_text|>")
    assert loaded.encode(SAMPLE).tolist() == library.encode(SAMPLE).ids[1:]
    assert loaded.decode(loaded.encode(SAMPLE)) == SAMPLE
    lengths = loaded.byte_lengths()
    assert lengths is not None and lengths[loaded.encode(SAMPLE)].sum() == len(SAMPLE.encode())
    assert lengths[loaded.encode("<s>x<|end_of_text|>")].tolist() == [0, 1, 0]
    assert lengths[library.token_to_id("spaces")] == 6


@pytest.mark.parametrize(
    ("parts", "known"),
    [
        ({"normalizer": normalizers.Lowercase()}, False),
        ({"normalizer": normalizers.NFC()}, True),
        ({"decoder": decoders.WordPiece()}, False),
        ({"decoder": decoders.Sequence([decoders.ByteLevel()])}, True),
    ],
)
def test_byte_lengths_are_known_only_where_tokens_spell_out_bytes(
    parts: dict[str, Any], known: bool, tmp_path: Path
) -> None:
    byte_level(tmp_path / "tokenizer.json", **parts)
    assert (load_tokenizer(tmp_path / "tokenizer.json").byte_lengths() is not None) == known


def test_unused_ids_count_in_the_vocabulary(tmp_path: Path) -> None:
    library = Library(models.WordLevel({"<unk>": 0, "a": 7}, unk_token="<unk>"))
    assert LibraryTokenizer("library", library).vocab_size == 8


@pytest.mark.parametrize("kind", ["bpe", "words"])
def test_pretokenized_texts_have_the_same_tokens(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_module, "MAX_CACHED_PRETOKENS", 20)
    draw = random.Random(0)
    letters = " \n\t\r\x0b\x0c\x01\x1c\x1f\x7f\x85\xa0\u2003\u2028\u200b\ufeffabs''!_.12²é日🙂—"
    tokenizer = make_tokenizer(
        kind, ["".join(draw.choices(letters, k=2_000)), "a ab aab bba\n"], 400, with_eos_token=True
    )
    assert isinstance(tokenizer, LibraryTokenizer) and tokenizer._pretokenize is not None
    texts = ["".join(draw.choices(letters, k=draw.randrange(30))) for _ in range(2_000)]
    texts += ["a <|endoftext|>b", "<|endoftext|> \n<|endoftext|>", "don't  he 's ('self's')", ""]
    for text, tokens in zip(texts, tokenizer.encode_batch(texts), strict=True):
        assert tokens.tolist() == tokenizer._tokenizer.encode(text).ids, repr(text)


@pytest.mark.parametrize("letters", ["ab12.,'é日 \n", "ab, \n\n\n    ", "ab12.,("])
def test_a_long_document_that_comes_in_chunks_has_the_same_tokens(
    letters: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "CHUNK_SIZE", 50)
    draw = random.Random(0)
    text = "".join(draw.choices(letters, k=5_000))
    tokenizer = make_tokenizer("bpe", [text, "a,b ab,1 12.\n    b\n"] * 3, 400)
    chunks = [chunk.text for chunk in documents.InMemoryDocuments(text).chunks()]
    assert len(chunks) > 50 and "".join(chunks) == text
    encoded = tokenizer.encode_batch(chunks)
    assert [int(token) for tokens in encoded for token in tokens] == tokenizer.encode(text).tolist()


@pytest.mark.parametrize(
    "parts",
    [
        {"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=True)},
        {"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)},
        {"normalizer": normalizers.Replace("  ", " ")},
    ],
)
def test_other_tokenizers_encode_whole_texts(parts: dict[str, Any], tmp_path: Path) -> None:
    library = byte_level(tmp_path / "tokenizer.json", **parts)
    assert load_tokenizer(tmp_path / "tokenizer.json").encode(SAMPLE).tolist() == library.encode(SAMPLE).ids[1:]
    library = byte_level(tmp_path / "tokenizer.json")
    library.add_tokens(["and   sp", "sp"])
    library.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path / "tokenizer.json").encode(SAMPLE).tolist() == library.encode(SAMPLE).ids[1:]


def test_a_config_takes_a_tokenizer_file_in_place_of_a_kind(tmp_path: Path) -> None:
    byte_level(tmp_path / "tokenizer.json")
    (tmp_path / "x.txt").write_text(SAMPLE * 3, encoding="utf-8")
    small = {"path": str(tmp_path / "x.txt"), "batch_size": 1, "context": 4}
    data = datasets.create("text", tokenizer=str(tmp_path / "tokenizer.json"), **small)
    assert (
        data.tokenizer.decode(data.splits["train"].tolist())
        == (SAMPLE * 3)[: len(data.tokenizer.decode(data.splits["train"].tolist()))]
    )
    with pytest.raises(
        UserError, match=r"tokenizer of dataset 'text' must be one of .* not 'bpee'; did you mean 'bpe'"
    ):
        datasets.create("text", tokenizer="bpee", **small)
    with pytest.raises(
        UserError, match=r"tokenizer 'characterz' is neither a kind nor a file; did you mean 'characters'"
    ):
        TextData(SAMPLE, tokenizer="characterz")  # type: ignore[arg-type]


@pytest.mark.parametrize("content", ["no json", "[1]", json.dumps({"model": 3}), json.dumps({"kind": "chars"})])
def test_a_file_that_is_no_tokenizer_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match=r"tokenizer\.json: is no tokenizer\.json: [^\n]+$"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_a_resume_with_another_tokenizer_names_the_tokenizer(tmp_path: Path) -> None:
    text = tmp_path / "x.txt"
    text.write_text(SAMPLE * 20, encoding="utf-8")
    byte_level(tmp_path / "tokenizer.json")
    config = {
        "model": {"name": "lstm", "embedding": 4, "hidden": 4},
        "task": {"name": "language_modelling"},
        "data": {
            "name": "text",
            "path": str(text),
            "tokenizer": str(tmp_path / "tokenizer.json"),
            "batch_size": 2,
            "context": 8,
        },
        "trainer": {"max_steps": 2, "threads": 1, "save_every": 2},
    }
    run = aibig.train(config, out=tmp_path / "run")
    make_tokenizer("bpe", "other text " * 9, 303).save(tmp_path / "tokenizer.json")
    with pytest.raises(UserError, match=r"^tokenizer: is not the one that the run began with"):
        aibig.train(
            config | {"trainer": {"max_steps": 4, "threads": 1, "save_every": 2}}, out=tmp_path / "run", resume=True
        )
    load_tokenizer(run.path / "model" / "model.json").save(tmp_path / "tokenizer.json")
    aibig.train(
        config | {"trainer": {"max_steps": 4, "threads": 1, "save_every": 2}}, out=tmp_path / "run", resume=True
    )


def test_a_text_that_a_tokenizer_cannot_express_is_named(tmp_path: Path) -> None:
    library = Library(models.WordLevel({"a": 0}, unk_token="<unk>"))
    library.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match=r"text number 1: the tokenizer can't express the text: "):
        TextData(["a", "b"], tokenizer=str(tmp_path / "tokenizer.json"))  # type: ignore[arg-type]
