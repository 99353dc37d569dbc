"""Documents from files: the same text from every format, and errors that name file and line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from aibig.data.text.documents import CHUNK_SIZE, InMemoryDocuments, TextFiles
from aibig.data.text.text_data import TextData, read_text
from aibig.errors import UserError

TEXTS = ["The first,\nof two lines.", "zweiter: größer 🙂", "third"]


def write_jsonl(path: Path, texts: list[str], field: str = "text") -> Path:
    path.write_text("\n".join(json.dumps({"id": 1, field: text}) for text in texts) + "\n\n", encoding="utf-8")
    return path


def write_parquet(path: Path, texts: list[object], field: str = "text") -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table({field: texts}), path)
    return path


def test_documents_are_lines_rows_and_files(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    (folder / "b").mkdir(parents=True)
    write_jsonl(folder / "a.jsonl", [*TEXTS, "  "])
    write_parquet(folder / "b" / "c.parquet", [*TEXTS])
    (folder / "d.txt").write_text(TEXTS[0], encoding="utf-8")
    (folder / "e.md").write_text("not this", encoding="utf-8")
    assert list(read_text(path=str(folder))) == [*TEXTS, *TEXTS, TEXTS[0]]
    assert list(read_text(path=str(folder / "e.md"))) == ["not this"]
    assert TextFiles(folder / "a.jsonl").multiple and not TextFiles(folder / "d.txt").multiple
    assert list(TextFiles(write_jsonl(tmp_path / "x.jsonl", TEXTS, "body"), "body")) == TEXTS


def test_line_ends_and_byte_order_mark_are_as_python_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "windows.txt"
    content = "a é\r\nb\rc\n" * 20_000  # a "\r\n" and a character of two bytes lie across reads
    path.write_bytes(b"\xef\xbb\xbf" + content.encode())
    assert "".join(TextFiles(path)) == content.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize(
    "content",
    [
        "word " * 60_000,
        "line\n\n  and more\n" * 20_000,
        "x" * 300_000,
        "12,\n\n  " * 40_000,
        "ab(" * 90_000,
        "\n" * 10 + "é" * 200_000,
    ],
)
def test_long_documents_come_in_chunks_that_add_up(content: str, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text(content, encoding="utf-8")
    for documents in (TextFiles(tmp_path / "long.txt"), InMemoryDocuments([content])):
        chunks = list(documents.chunks())
        assert "".join(chunk.text for chunk in chunks) == content
        assert [chunk.begins_document for chunk in chunks] == [True] + [False] * (len(chunks) - 1) and len(chunks) > 2
        assert max(len(chunk.text) for chunk in chunks) <= 2 * CHUNK_SIZE
    assert chunks[-1].bytes_read == 0
    assert [*TextFiles(tmp_path / "long.txt").chunks()][-1].bytes_read == len(content.encode())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"text": "b"', r"x\.jsonl:3: is not JSON: Expecting ',' delimiter \(column 13\)"),
        ('{"txt": "b"}', r"x\.jsonl:3: has no field 'text'; did you mean 'txt'\? \(data\.field\)"),
        ('{"id": "b"}', r"x\.jsonl:3: has no field 'text'; it has: id \(data\.field\)"),
        ('{"text": 5}', r"x\.jsonl:3: field 'text' must be text, not 5"),
        ("[1]", r"x\.jsonl:3: must be an object with the field 'text', not \[1\]"),
        ('{"text": "b\ud800"}', r"x\.jsonl:3: is not UTF-8 text \(byte 11 of the line\)"),
    ],
)
def test_a_bad_line_of_jsonl_is_named(line: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"text": "a"}\n\n' + line.encode(errors="surrogatepass") + b"\n")
    with pytest.raises(UserError, match=words):
        list(read_text(path=str(path)))


def test_bad_parquet_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path / "x.parquet", ["a", None], "content")
    with pytest.raises(UserError, match=r"x\.parquet: row 1: field 'content' must be text, not None"):
        list(TextFiles(path, "content"))
    with pytest.raises(UserError, match=r"x\.parquet: has no field 'contents'; did you mean 'content'\?"):
        list(TextFiles(path, "contents"))
    path.write_bytes(b"no parquet")
    with pytest.raises(UserError, match=r"x\.parquet: can't be read as a parquet file"):
        list(TextFiles(path))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UserError, match=r"x\.parquet: pyarrow.* pip install 'aibig\[parquet\]'"):
        list(TextFiles(path))


def test_what_is_not_text_or_unreadable_is_named(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_bytes(b"a" * 70_000 + "é".encode() * 3 + b"\xff")
    with pytest.raises(UserError, match=r"long\.txt: is not UTF-8 text \(byte 70006\)"):
        list(TextFiles(tmp_path / "long.txt"))
    with pytest.raises(UserError, match=r"text number 1 must be text, not 5"):
        TextData(["a", 5])  # type: ignore[list-item]
    deleted = TextFiles(tmp_path / "long.txt")
    (tmp_path / "long.txt").unlink()
    with pytest.raises(UserError, match=r"long\.txt: cannot be read: No such file"):
        list(deleted)
