"""Texts as documents, read piece by piece: .txt, .jsonl and .parquet files, or texts from Python. Knows no tokens."""

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

BETWEEN_DOCUMENTS = "\n\n"  # where a tokenizer has no token for it
PIECE = 65_536  # characters

# Where a long document is cut, as far on as can be: after a line end or before a space that has no blank beside it,
# else before any blank, else between a letter or digit and a sign. Byte-level pre-tokenizers join none of these, but
# for some that take line ends to the sign before.
CUTS = [
    re.compile(pattern, re.DOTALL)
    for pattern in (r".*(?:\S\n(?=\S)|\S(?= \S))", r".*\S(?=\s)", r".*[A-Za-z0-9](?=[!-/:-@])")
]


class Piece(NamedTuple):
    """A document, or a part of one.

    opens: whether the document begins here. place: where it stands, for errors. position: bytes of all files that
    have been read by now.
    """

    text: str
    opens: bool
    place: str
    position: int = 0


class Documents(ABC):
    """Texts, one after another, that can be read any number of times. several: whether they may be more than one."""

    several: bool

    @abstractmethod
    def pieces(self) -> Iterator[Piece]:
        """All of the text in order, in pieces of about `PIECE` characters."""

    def __iter__(self) -> Iterator[str]:
        """Each document whole."""
        parts: list[str] = []
        for piece in self.pieces():
            if piece.opens and parts:
                yield "".join(parts)
                parts = []
            parts.append(piece.text)
        if parts:
            yield "".join(parts)


class GivenTexts(Documents):
    """Texts from Python."""

    def __init__(self, texts: str | Iterable[str]) -> None:
        self._texts = [texts] if isinstance(texts, str) else list(texts)
        self.several = len(self._texts) > 1

    def pieces(self) -> Iterator[Piece]:
        """Raises UserError naming the first that is no text."""
        for number, text in enumerate(self._texts):
            if not isinstance(text, str):
                raise UserError(f"text number {number} must be text, not {text!r:.40}")
            yield from _in_pieces(text, f"text number {number}")


class TextFiles(Documents):
    """The documents of a file, or of all in a folder and below, in the order of their paths.

    A .jsonl file has one a line and a .parquet file one a row, in `field`; any other file is one.

    Raises UserError naming file and line, or byte, of what can't be read, an empty file, or a folder without any.
    """

    def __init__(self, path: str | Path, field: str = "text") -> None:
        self.path, self.field = Path(path), field
        self.files = [self.path]
        if self.path.is_dir():
            self.files = sorted(one for one in self.path.rglob("*") if one.suffix.lower() in READERS and one.is_file())
        if not self.files:
            kinds = f"{', '.join(READERS)} file"
            raise UserError(f"{path}: holds no {kinds}, nor do the folders below; give a file, or a folder with some")
        self.several = len(self.files) > 1 or self.files[0].suffix.lower() in (".jsonl", ".parquet")

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size, _ in self.stamps())

    def stamps(self) -> list[tuple[str, int, int]]:
        """(name, bytes, nanoseconds of its last change) of each file: where they are as before, so are the files."""
        try:
            facts = [one.stat() for one in self.files]
        except OSError as error:
            raise _unreadable(error) from None
        names = [one.relative_to(self.path).as_posix() for one in self.files]
        return [(name, one.st_size, one.st_mtime_ns) for name, one in zip(names, facts, strict=True)]

    def digest(self) -> str:
        """A short text that depends on every byte."""
        whole = hashlib.blake2b(digest_size=16)
        for path in self.files:
            try:
                with path.open("rb") as file:
                    whole.update(hashlib.file_digest(file, "blake2b").digest())
            except OSError as error:
                raise _unreadable(error) from None
        return whole.hexdigest()

    def pieces(self) -> Iterator[Piece]:
        """As of `Documents`; documents of blanks alone are left out where a file has several."""
        before = 0
        for file in self.files:
            has_text = False
            try:
                for piece in READERS.get(file.suffix.lower(), _read_text)(file, self.field):
                    has_text = has_text or not piece.text.isspace()
                    yield piece._replace(position=before + piece.position)
                before += file.stat().st_size
            except OSError as error:
                raise _unreadable(error) from None
            if not has_text:
                raise UserError(f"{file}: is empty; give a file with text in it")


def _read_text(path: Path, _: str) -> Iterator[Piece]:
    with path.open("rb") as file:
        for number, text in enumerate(_cut(_characters(file, path))):
            yield Piece(text, number == 0, str(path), file.tell())


def _characters(file: Any, path: Path) -> Iterator[str]:
    """The text of a UTF-8 file in chunks, without a byte order mark, line ends as in Python."""
    decoder = getincrementaldecoder("utf-8")()
    lines = io.IncrementalNewlineDecoder(decoder, translate=True)
    end = False
    while not end:
        waiting = len(decoder.getstate()[0])  # bytes of a character that is not complete
        begin = file.tell() - waiting
        chunk = file.read(PIECE)
        end = not chunk
        try:
            text: str = lines.decode(chunk, final=end)
        except UnicodeDecodeError as error:
            place = begin + error.start
            raise UserError(f"{path}: is not UTF-8 text (byte {place}); convert it to UTF-8") from None
        yield text.removeprefix("\ufeff") if begin == 0 else text


def _read_jsonl(path: Path, field: str) -> Iterator[Piece]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            place = f"{path}:{number}"
            if line.strip():
                yield from _in_pieces(_text_of(line, field, place), place, file.tell())


def _text_of(line: bytes, field: str, place: str) -> str:
    try:
        record = json.loads(line.decode("utf-8-sig").rstrip())
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: is not UTF-8 text (byte {error.start} of the line); convert it to UTF-8") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{place}: is not JSON: {error.msg} (column {error.colno})") from None
    if not isinstance(record, dict):
        raise UserError(f"{place}: must be an object with the field {field!r}, not {record!r:.40}")
    if field not in record:
        raise UserError(f"{place}: {_no_field(field, record)}")
    return _must_be_text(record[field], field, place)


def _read_parquet(path: Path, field: str) -> Iterator[Piece]:
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
                    place = f"{path}: row {row}"
                    row += 1
                    yield from _in_pieces(_must_be_text(value, field, place), place, size * row // rows)
    except importlib.import_module("pyarrow").ArrowException as error:
        raise UserError(f"{path}: is no parquet file that can be read: {error}") from None


def _no_field(field: str, known: Iterable[str]) -> str:
    names = [*known]
    hint = nearest(field, names) or f"; it has: {', '.join(names) or 'none'}"
    return f"has no field {field!r}{hint} (data.field)"


def _must_be_text(value: Any, field: str, place: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{place}: field {field!r} must be text, not {value!r:.40}")
    return value


def _in_pieces(text: str, place: str, position: int = 0) -> Iterator[Piece]:
    chunks = (text[start : start + PIECE] for start in range(0, len(text), PIECE))
    if not text.isspace():
        for number, piece in enumerate(_cut(chunks)):
            yield Piece(piece, number == 0, place, position)


def _cut(chunks: Iterable[str]) -> Iterator[str]:
    """A document that comes in chunks of at most `PIECE` characters."""
    text = ""
    for chunk in chunks:
        text += chunk
        if len(text) >= PIECE:
            found = next((match for pattern in CUTS if (match := pattern.match(text))), None)
            end = len(text) if found is None else found.end()
            yield text[:end]
            text = text[end:]
    if text:
        yield text


def _unreadable(error: OSError) -> UserError:
    return UserError(f"{error.filename}: cannot be read: {error.strerror or error}")


READERS: dict[str, Callable[[Path, str], Iterator[Piece]]] = {
    ".txt": _read_text,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
