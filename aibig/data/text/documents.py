"""Texts as documents, read in chunks: .txt, .jsonl and .parquet files, or texts from Python. Knows no tokens."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import re
from abc import ABC, abstractmethod
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from aibig.errors import UserError, nearest
from aibig.files import not_utf8, unreadable

DOCUMENT_SEPARATOR = "\n\n"  # where a tokenizer has no end-of-text token
CHUNK_SIZE = 65_536  # characters

# Where a long document is split, as late as possible: after a line end or before a space that has no other whitespace
# beside it, else before any whitespace, else between a letter or digit and a punctuation mark. Byte-level
# pre-tokenizers split there too, except some that merge line ends with the punctuation mark before.
SPLIT_PATTERNS = [
    re.compile(pattern, re.DOTALL)
    for pattern in (r".*(?:\S\n(?=\S)|\S(?= \S))", r".*\S(?=\s)", r".*[A-Za-z0-9](?=[!-/:-@])")
]


class Chunk(NamedTuple):
    """A document, or a part of one.

    Args:
        text: of the chunk.
        begins_document: whether it is the first chunk of a document.
        location: where it comes from, for errors.
        bytes_read: of all files so far, for progress bars.
    """

    text: str
    begins_document: bool
    location: str
    bytes_read: int = 0


class Documents(ABC):
    """Texts, one after another, that can be read any number of times.

    Attributes:
        multiple: whether there may be more than one.
    """

    multiple: bool

    @abstractmethod
    def chunks(self) -> Iterator[Chunk]:
        """All of the text in order, in chunks of about `CHUNK_SIZE` characters."""

    def __iter__(self) -> Iterator[str]:
        """Whole documents."""
        texts: list[str] = []
        for chunk in self.chunks():
            if chunk.begins_document and texts:
                yield "".join(texts)
                texts = []
            texts.append(chunk.text)
        if texts:
            yield "".join(texts)


class InMemoryDocuments(Documents):
    """Texts from Python.

    Args:
        texts: a text, or several.
    """

    def __init__(self, texts: str | Iterable[str]) -> None:
        self._texts = [texts] if isinstance(texts, str) else list(texts)
        self.multiple = len(self._texts) > 1

    def chunks(self) -> Iterator[Chunk]:
        """Raises UserError naming the first that is not a str."""
        for number, text in enumerate(self._texts):
            if not isinstance(text, str):
                raise UserError(f"text number {number} must be text, not {text!r:.40}")
            yield from _chunks(text, f"text number {number}")


class TextFiles(Documents):
    """The documents of a file, or of all files in a folder and its subfolders, in the order of their paths.

    A .jsonl file has a document per line, a .parquet file one per row; any other file is one document.

    Args:
        path: file, or folder of files.
        field: field of a .jsonl line, or column of a .parquet file, that holds the text.

    Raises:
        UserError: there are no files; or, on reading, a file is empty or can't be read (named with its line or byte).
    """

    def __init__(self, path: str | Path, field: str = "text") -> None:
        self.path, self.field = Path(path), field
        self.files = [self.path]
        if self.path.is_dir():
            files = sorted(self.path.rglob("*"))
            self.files = [file for file in files if file.suffix.lower() in READERS and file.is_file()]
        if not self.files:
            kinds = ", ".join(READERS)
            raise UserError(f"{path}: has no {kinds} file in it or in its subfolders; give a file, or a folder of some")
        self.multiple = len(self.files) > 1 or self.files[0].suffix.lower() in (".jsonl", ".parquet")

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size, _ in self.file_stats())

    def file_stats(self) -> list[tuple[str, int, int]]:
        """(name, bytes, modification time in nanoseconds) of each file: if they are equal, so are the files."""
        try:
            stats = [file.stat() for file in self.files]
        except OSError as error:
            raise unreadable(error.filename, error) from None
        names = [file.relative_to(self.path).as_posix() for file in self.files]
        return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in zip(names, stats, strict=True)]

    def digest(self) -> str:
        """A hash of the contents of all files."""
        total = hashlib.blake2b(digest_size=16)
        for path in self.files:
            try:
                with path.open("rb") as file:
                    total.update(hashlib.file_digest(file, "blake2b").digest())
            except OSError as error:
                raise unreadable(error.filename, error) from None
        return total.hexdigest()

    def chunks(self) -> Iterator[Chunk]:
        """All of the text; documents of whitespace alone are left out where a file has several."""
        bytes_before = 0
        for file in self.files:
            has_text = False
            try:
                for chunk in READERS.get(file.suffix.lower(), _read_text)(file, self.field):
                    has_text = has_text or not chunk.text.isspace()
                    yield chunk._replace(bytes_read=bytes_before + chunk.bytes_read)
                bytes_before += file.stat().st_size
            except OSError as error:
                raise unreadable(error.filename, error) from None
            if not has_text:
                raise UserError(f"{file}: is empty; give a file with text in it")


def _read_text(path: Path, _: str) -> Iterator[Chunk]:
    with path.open("rb") as file:
        for number, text in enumerate(_rechunk(_decode(file, path))):
            yield Chunk(text, number == 0, str(path), file.tell())


def _decode(file: Any, path: Path) -> Iterator[str]:
    """The text of a UTF-8 file in chunks, without a byte order mark, with line ends as in Python."""
    decoder = getincrementaldecoder("utf-8")()
    newline_decoder = io.IncrementalNewlineDecoder(decoder, translate=True)
    is_last = False
    while not is_last:
        start = file.tell() - len(decoder.getstate()[0])  # bytes of an incomplete character come again
        content = file.read(CHUNK_SIZE)
        is_last = not content
        try:
            text: str = newline_decoder.decode(content, final=is_last)
        except UnicodeDecodeError as error:
            raise not_utf8(path, start + error.start) from None
        yield text.removeprefix("\ufeff") if start == 0 else text


def _read_jsonl(path: Path, field: str) -> Iterator[Chunk]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            location = f"{path}:{number}"
            if line.strip():
                yield from _chunks(_parse_line(line, field, location), location, file.tell())


def _parse_line(line: bytes, field: str, location: str) -> str:
    try:
        record = json.loads(line.decode("utf-8-sig").rstrip())
    except UnicodeDecodeError as error:
        raise not_utf8(location, error.start, " of the line") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{location}: is not JSON: {error.msg} (column {error.colno})") from None
    if not isinstance(record, dict):
        raise UserError(f"{location}: must be an object with the field {field!r}, not {record!r:.40}")
    if field not in record:
        raise UserError(f"{location}: {_no_field(field, record)}")
    return _must_be_text(record[field], field, location)


def _read_parquet(path: Path, field: str) -> Iterator[Chunk]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise UserError(
            f"{path}: pyarrow, which reads it, can't be imported ({error}); pip install 'aibig[parquet]'"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            if field not in file.schema_arrow.names:
                raise UserError(f"{path}: {_no_field(field, file.schema_arrow.names)}")
            row, rows, size = 0, max(1, file.metadata.num_rows), path.stat().st_size
            for batch in file.iter_batches(batch_size=1_024, columns=[field]):
                for value in batch.column(0).to_pylist():
                    location = f"{path}: row {row}"
                    row += 1
                    yield from _chunks(_must_be_text(value, field, location), location, size * row // rows)
    except importlib.import_module("pyarrow").ArrowException as error:
        raise UserError(f"{path}: can't be read as a parquet file: {error}") from None


def _no_field(field: str, known: Iterable[str]) -> str:
    names = [*known]
    hint = nearest(field, names) or f"; it has: {', '.join(names) or 'none'}"
    return f"has no field {field!r}{hint} (data.field)"


def _must_be_text(value: Any, field: str, location: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{location}: field {field!r} must be text, not {value!r:.40}")
    return value


def _chunks(text: str, location: str, bytes_read: int = 0) -> Iterator[Chunk]:
    """A document that is in memory, unless it is whitespace alone."""
    if not text.isspace():
        slices = (text[start : start + CHUNK_SIZE] for start in range(0, len(text), CHUNK_SIZE))
        for number, chunk in enumerate(_rechunk(slices)):
            yield Chunk(chunk, number == 0, location, bytes_read)


def _rechunk(slices: Iterable[str]) -> Iterator[str]:
    """A document that comes in slices of at most `CHUNK_SIZE` characters, split where SPLIT_PATTERNS allow it."""
    text = ""
    for part in slices:
        text += part
        if len(text) >= CHUNK_SIZE:
            first_match = next((match for pattern in SPLIT_PATTERNS if (match := pattern.match(text))), None)
            end = len(text) if first_match is None else first_match.end()
            yield text[:end]
            text = text[end:]
    if text:
        yield text


READERS: dict[str, Callable[[Path, str], Iterator[Chunk]]] = {
    ".txt": _read_text,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
