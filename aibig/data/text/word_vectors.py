"""Word vectors from text files, as GloVe and word2vec write them, for a vocabulary. Knows no model.

V words of the vocabulary, W numbers a vector.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aibig.data.text.tokenizer import Tokenizer
from aibig.errors import UserError

FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass
class WordVectors:
    """A matrix (V, W), and for which words (V,) the file had a vector; the others are drawn."""

    matrix: Tensor
    found: Tensor

    def coverage(self, tokens: Tensor) -> str:
        """How much of the vocabulary was found, and of a text of token numbers (tokens,), in a line."""
        share = 100 * sum(int(self.found[some.long().cpu()].sum()) for some in tokens.split(1_000_000)) / len(tokens)
        return f"word vectors: {int(self.found.sum()):,} of {len(self.found):,} words ({share:.1f} % of the text)"


def word_vectors(path: str | Path, words: Sequence[str], generator: torch.Generator) -> WordVectors:
    """The vectors of `words` from a file with a word a line and its numbers, divided by blanks.

    A first line of two whole numbers is word2vec's header. Of a word that comes twice the first vector counts; a
    word that is missing takes the vector of its lower-case form, if that is there. The others are drawn from
    `generator`: normal, with the mean and standard deviation that the found vectors have in each number.

    Raises UserError naming file and line for vectors of different length, what is no number or not UTF-8, an empty
    file, and one without any of the words.
    """
    keys = [(word.encode(), word.lower().encode()) for word in words]
    lacking = {key for both in keys for key in both}
    rows: dict[bytes, int] = {}  # word -> its place among the lines that are needed
    lines: list[int] = []
    numbers: list[bytes] = []
    for line, word, vector in _read_lines(Path(path)):
        if word in lacking:
            lacking.remove(word)
            rows[word] = len(lines)
            lines.append(line)
            numbers.append(vector)
    chosen = torch.tensor([rows.get(key, rows.get(lower, -1)) for key, lower in keys])
    found = chosen >= 0
    if not found.any():
        raise UserError(f"{path}: has vectors for none of the {len(words):,} words; is it of this text's language?")
    known = torch.from_numpy(_to_numbers(Path(path), lines, numbers))[chosen[found]]
    matrix = torch.empty(len(words), known.shape[1])
    matrix[found] = known
    drawn = torch.randn(int((~found).sum()), known.shape[1], generator=generator)
    matrix[~found] = known.mean(0) + drawn * known.std(0, correction=0)
    return WordVectors(matrix, found)


def vector_width(path: str | Path) -> int:
    """W: how many numbers the file's first vector has. Raises UserError for a file without any."""
    _, _, vector = next(_read_lines(Path(path)))
    return vector.count(b" ") + 1


def words_of(tokenizer: Tokenizer) -> list[str]:
    """The words (V,) of a vocabulary by number. Raises UserError for tokens that are no words."""
    described = tokenizer.to_dict()
    if described["kind"] != "words":
        raise UserError(f"word_vectors: are for words; set data.tokenizer=words, not {described['kind']}")
    numbers: dict[str, int] = described["tokenizer"]["model"]["vocab"]
    return sorted(numbers, key=lambda word: numbers[word])


def _read_lines(path: Path) -> Iterator[tuple[int, bytes, bytes]]:
    """(line number, word, its numbers) of each line, every one of them of the same length."""
    width, promised, count = 0, None, 0
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    with file:
        for line, content in enumerate(file, 1):
            word, _, vector = content.rstrip().partition(b" ")
            if line == 1 and word.isdigit() and vector.isdigit():
                promised, width = int(word), int(vector)
                continue
            if not word and not vector:
                continue
            if not vector:
                raise UserError(f"{path}:{line}: has a word without numbers; they are to be divided by blanks")
            width = width or vector.count(b" ") + 1
            if vector.count(b" ") + 1 != width:
                word, vector = _with_blanks(path, line, content, width)
            if not word.isascii():
                _check_utf8(path, line, word)
            count += 1
            yield line, word, vector
    if not count:
        raise UserError(f"{path}: is empty; give a file with a word and its numbers in each line")
    if promised is not None and count < promised:
        raise UserError(f"{path}: its first line promises {promised:,} words, but there are {count:,}: it was cut off")


def _check_utf8(path: Path, line: int, word: bytes) -> None:
    try:
        word.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}:{line}: is not UTF-8 text (byte {error.start}); convert it to UTF-8") from None


def _with_blanks(path: Path, line: int, content: bytes, width: int) -> tuple[bytes, bytes]:
    """Word and vector of a line where the word itself has blanks, as GloVe's largest file has some."""
    word, *vector = content.rstrip().rsplit(b" ", width)
    inside = word.split(b" ")[1:]
    if len(vector) < width or not inside or all(_is_number(one) for one in inside):
        found = len(content.split()) - 1
        raise UserError(f"{path}:{line}: has {found} numbers, where {width} were expected; all vectors need as many")
    return word, b" ".join(vector)


def _to_numbers(path: Path, lines: Sequence[int], vectors: Sequence[bytes]) -> NDArray[np.float32]:
    """Many vectors at once: pandas reads numbers about three times as fast as NumPy does."""
    import pandas as pd

    text = io.BytesIO(b"\n".join(vectors))
    try:
        with np.errstate(over="ignore"):
            numbers = pd.read_csv(text, sep=" ", header=None, dtype=np.float32, quoting=csv.QUOTE_NONE).to_numpy()
    except ValueError:
        numbers = None
    if numbers is None or not np.isfinite(numbers).all():
        for line, vector in zip(lines, vectors, strict=True):
            for piece in vector.split(b" "):
                if not _is_number(piece):
                    raise UserError(f"{path}:{line}: {piece.decode(errors='replace')!r} is not a finite number")
    assert numbers is not None, "pandas and _is_number disagree"
    return np.ascontiguousarray(numbers)


def _is_number(piece: bytes) -> bool:
    """Whether pandas reads it as one, and float32 holds it."""
    try:
        return b"_" not in piece and abs(float(piece)) <= FLOAT32_MAX
    except ValueError:
        return False
