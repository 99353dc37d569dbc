"""Large texts: tokenized once into a folder, completely or not at all, and again only when they change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import aibig
from aibig.data.text import token_files
from aibig.data.text.text_data import TextData, read_text
from aibig.data.text.tokenizer import make_tokenizer
from aibig.errors import UserError

SMALL: dict[str, Any] = {"batch_size": 2, "context": 8}
TEXTS = [f"Document {number}: größer als {number * 7} 🙂\nand more.\n" for number in range(300)]


@pytest.fixture(autouse=True)
def all_texts_are_large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(token_files, "MIN_BYTES", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))


@pytest.fixture
def tokenized(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the texts that were tokenized, one for each time."""
    names: list[str] = []
    write = token_files.TokenFiles.write

    def counted(self: token_files.TokenFiles, folder: Path) -> Any:
        names.append(self.documents.path.name)
        return write(self, folder)

    monkeypatch.setattr(token_files.TokenFiles, "write", counted)
    return names


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "lines.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS), encoding="utf-8")
    return path


def folders(base: Path) -> list[Path]:
    return sorted((base / ".aibig").iterdir()) if (base / ".aibig").exists() else []


@pytest.mark.parametrize("tokenizer", ["characters", "bytes", "words", "bpe"])
def test_a_memory_mapped_text_equals_the_one_in_memory(
    tokenizer: Any, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {**SMALL, "tokenizer": tokenizer, "vocab_size": 300, "documents": "apart"}
    mapped, reloaded = (TextData(read_text(path=str(source)), **settings) for _ in range(2))
    monkeypatch.setattr(token_files, "MIN_BYTES", 10**9)
    in_memory = TextData(read_text(path=str(source)), **settings)
    assert mapped.splits["train"].dtype == torch.uint16 and in_memory.splits["train"].dtype == torch.int64
    assert reloaded.tokenizer.to_dict() == mapped.tokenizer.to_dict() == in_memory.tokenizer.to_dict()
    for name, tokens in in_memory.splits.items():
        assert torch.equal(mapped.splits[name].long(), tokens) and torch.equal(reloaded.splits[name].long(), tokens)
        assert torch.equal(mapped.boundaries[name], in_memory.boundaries[name])  # type: ignore[arg-type]
    for _ in range(3):
        for ours, theirs in zip(
            mapped.training_windows(3, 0, 1).next(), in_memory.training_windows(3, 0, 1).next(), strict=True
        ):
            assert torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs
    assert mapped.fingerprint == reloaded.fingerprint and "tokens, read from" in mapped.notes[0]


def test_more_tokens_than_uint16_holds_take_uint32(source: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Library
    from tokenizers import models, pre_tokenizers

    library = Library(models.WordLevel({"<unk>": 0, "Document": 70_000}, unk_token="<unk>"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.save(str(tmp_path / "tokenizer.json"))
    data = TextData(read_text(path=str(source)), tokenizer=str(tmp_path / "tokenizer.json"), **SMALL)  # type: ignore[arg-type]
    assert data.splits["train"].dtype == torch.uint32 and data.training_windows(0, 0, 1).next().tokens.max() == 70_000


def test_a_text_is_tokenized_once_with_each_tokenizer(source: Path, tokenized: list[str]) -> None:
    for _ in range(2):
        token_files.tokenize(read_text(path=str(source)), "bpe", 300)
        token_files.tokenize(read_text(path=str(source)), "bpe", 310)
        token_files.tokenize(read_text(path=str(source)), "characters", 300)
    token_files.tokenize(read_text(path=str(source)), "characters", 310)
    assert len(tokenized) == 3 and len(folders(source.parent)) == 3


def test_a_changed_text_is_noticed_and_a_touched_one_is_not(source: Path, tokenized: list[str]) -> None:
    first = token_files.tokenize(read_text(path=str(source)), "characters")
    os.utime(source, (1, 1))
    token_files.tokenize(read_text(path=str(source)), "characters")
    assert len(tokenized) == 1
    content = source.read_text(encoding="utf-8")
    source.write_text(content.replace("more", "less"), encoding="utf-8")  # of the same size
    os.utime(source, (2, 2))
    second = token_files.tokenize(read_text(path=str(source)), "characters")
    assert len(tokenized) == 2 and first.digest != second.digest
    assert len([*second.folder.glob("*.bin")]) == 2, "the old files are deleted"  # type: ignore[union-attr]


def test_an_unchanged_text_is_not_read_again(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token_files.tokenize(read_text(path=str(source)), "characters")
    for name in ("chunks", "digest"):
        monkeypatch.setattr(f"aibig.data.text.documents.TextFiles.{name}", lambda self: pytest.fail("was read"))
    token_files.tokenize(read_text(path=str(source)), "characters")


def test_a_changed_tokenizer_or_damage_is_noticed(source: Path, tokenized: list[str], tmp_path: Path) -> None:
    def tokenize(vocab_size: int) -> token_files.TokenizedText:
        make_tokenizer("bpe", TEXTS, vocab_size).save(tmp_path / "tokenizer.json")
        return token_files.tokenize(read_text(path=str(source)), str(tmp_path / "tokenizer.json"))

    first = tokenize(300)
    assert tokenize(310).tokens.long().max() >= 300 and len(tokenized) == 2
    assert torch.equal(tokenize(300).tokens, first.tokens) and len(tokenized) == 2
    folder = first.folder
    assert folder is not None
    tokens = next(folder.glob("tokens-*.bin"))
    tokens.write_bytes(tokens.read_bytes()[:-2])
    assert len(tokenize(300).tokens) == len(first.tokens)
    assert len(tokenized) == 3
    (folder / "manifest.json").write_text("{")
    tokenize(300)
    assert len(tokenized) == 4


def test_a_folder_is_named_or_the_first_that_is_writable(source: Path, tmp_path: Path, tokenized: list[str]) -> None:
    named = token_files.tokenize(read_text(path=str(source)), "bytes", cache=str(tmp_path / "elsewhere"))
    assert named.folder is not None and named.folder.parent == tmp_path / "elsewhere" and not folders(tmp_path)
    (tmp_path / ".aibig").write_text("a file in the way")
    fallback = token_files.tokenize(read_text(path=str(source)), "bytes")
    assert fallback.folder is not None and (tmp_path / "user" in fallback.folder.parents or sys.platform != "linux")
    with pytest.raises(
        UserError, match=r"\.aibig.*: the tokens can't be written: .*; name another folder in data\.cache"
    ):
        token_files.tokenize(read_text(path=str(source)), "bytes", cache=str(tmp_path / ".aibig"))


def test_a_full_disk_leaves_nothing_behind_and_is_reported_in_a_line(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        UserError, match=r"can't be written: No space left on device; free some space, or name another [^\n]+$"
    ):
        token_files.tokenize(read_text(path=str(source)), "characters")
    monkeypatch.undo()
    (folder,) = folders(source.parent)
    assert [path.name for path in folder.iterdir()] == ["lock"]


def test_a_mistake_in_the_text_leaves_nothing_behind(source: Path, tmp_path: Path) -> None:
    make_tokenizer("characters", "".join(TEXTS), 0).save(tmp_path / "tokenizer.json")
    with source.open("a", encoding="utf-8") as file:
        file.write('\n{"text": "\\u017c"}\n')
    with pytest.raises(UserError, match=r"lines\.jsonl:301: the character 'ż' \(position 0\) is not among"):
        token_files.tokenize(read_text(path=str(source)), str(tmp_path / "tokenizer.json"))
    (folder,) = folders(source.parent)
    assert [path.name for path in folder.iterdir()] == ["lock"]


SCRIPT = """
import sys
from aibig.data.text import token_files, tokens
token_files.MIN_BYTES = 1
if sys.argv[2] == "dies":
    encode_chunks = tokens.encode_chunks
    def dying(chunks, tokenizer):
        for number, part in enumerate(encode_chunks(chunks, tokenizer)):
            yield part
            if number == 100:
                print("half", flush=True)
                sys.stdin.read()
    token_files.encode_chunks = dying
text = token_files.tokenize(token_files.TextFiles(sys.argv[1]), "bpe", 300)
print(text.digest, len(list(text.folder.glob("*.bin"))))
"""


def start(source: Path, behaviour: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(source), behaviour]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_killed_process_leaves_what_the_next_one_clears_and_two_at_once_agree(source: Path) -> None:
    dying = start(source, "dies")
    assert dying.stdout is not None and dying.stdout.readline() == "half\n"
    waiting = start(source, "waits")  # for the lock of the first
    time.sleep(0.1)
    dying.kill()
    dying.communicate()
    (output, _), (second, _) = waiting.communicate(), start(source, "comes later").communicate()
    assert output == second and output.split()[1] == "2"


@pytest.fixture
def config(source: Path) -> Iterator[dict[str, Any]]:
    yield {
        "model": {"name": "lstm", "embedding": 4, "hidden": 4},
        "task": {"name": "language_modelling"},
        "data": {"name": "text", "path": str(source), **SMALL},
        "trainer": {"max_steps": 7, "eval_every": 5, "save_every": 5, "threads": 1},
    }


@pytest.mark.parametrize("order", ["shuffled", "stream"])
def test_training_on_a_memory_mapped_text_equals_training_on_one_in_memory(
    order: str, config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config["data"]["order"] = order
    mapped = aibig.train(config, out=tmp_path / "mapped")
    monkeypatch.setattr(token_files, "MIN_BYTES", 10**9)
    in_memory = aibig.train(config, out=tmp_path / "here")
    assert mapped.result is not None and in_memory.result is not None
    assert mapped.result["metrics"] == in_memory.result["metrics"]
    assert mapped.result["metrics"]["bits_per_byte"] > 0
