"""Word vectors of a vocabulary, from text files in the format of GloVe or word2vec. Knows no model.

V words of the vocabulary, W numbers of a vector.
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
from aibig.files import not_utf8, unreadable

FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass
class WordVectors:
    """The vectors of a vocabulary.

    Args:
        matrix: (V, W).
        in_file: which words' vectors are from the file, (V,); the others are random.
    """

    matrix: Tensor
    in_file: Tensor

    def coverage(self, tokens: Tensor) -> str:
        """How much of the vocabulary, and of a text, has vectors from the file, in a line.

        Args:
            tokens: ids of the text, (tokens,).
        """
        covered = sum(int(self.in_file[chunk.long().cpu()].sum()) for chunk in tokens.split(1_000_000))
        words = f"{int(self.in_file.sum()):,} of {len(self.in_file):,} words"
        return f"word vectors: {words} ({100 * covered / len(tokens):.1f} % of the text)"


def load_word_vectors(path: str | Path, words: Sequence[str], generator: torch.Generator) -> WordVectors:
    """The vectors of a vocabulary, from a file with a word and its numbers per line, separated by spaces.

    A first line of two whole numbers is word2vec's header. If a word comes twice, its first vector counts. A word that
    is missing takes the vector of its lower-case form, if that is there. Other words get random vectors, normally
    distributed with the mean and standard deviation of the vectors from the file, in each of the W numbers.

    Args:
        path: of the file.
        words: of the vocabulary.
        generator: of the random vectors.

    Raises:
        UserError: a vector has another length, something is no number or not UTF-8 (the error names file and line), the
            file is empty, or it has none of the words.
    """
    keys = [(word.encode(), word.lower().encode()) for word in words]
    missing = {key for pair in keys for key in pair}
    rows: dict[bytes, int] = {}  # word -> its index among the lines that are needed
    lines: list[int] = []
    vectors: list[bytes] = []
    for line, word, vector in _read_lines(Path(path)):
        if word in missing:
            missing.remove(word)
            rows[word] = len(lines)
            lines.append(line)
            vectors.append(vector)
    row_of_word = torch.tensor([rows.get(key, rows.get(lower, -1)) for key, lower in keys])
    in_file = row_of_word >= 0
    if not in_file.any():
        raise UserError(f"{path}: has vectors for none of the {len(words):,} words; is it of this text's language?")
    known = torch.from_numpy(_to_array(Path(path), lines, vectors))[row_of_word[in_file]]
    matrix = torch.empty(len(words), known.shape[1])
    matrix[in_file] = known
    noise = torch.randn(int((~in_file).sum()), known.shape[1], generator=generator)
    matrix[~in_file] = known.mean(0) + noise * known.std(0, correction=0)
    return WordVectors(matrix, in_file)


def vector_width(path: str | Path) -> int:
    """W: how many numbers the file's first vector has.

    Args:
        path: of the file.

    Raises:
        UserError: the file can't be read, or has no vectors.
    """
    _, _, vector = next(_read_lines(Path(path)))
    return vector.count(b" ") + 1


def words_by_id(tokenizer: Tokenizer) -> list[str]:
    """The words of a vocabulary, (V,), in the order of their ids.

    Args:
        tokenizer: of words.

    Raises:
        UserError: its tokens are not words.
    """
    values = tokenizer.to_dict()
    if values["kind"] != "words":
        raise UserError(f"word_vectors: are for words; set data.tokenizer=words, not {values['kind']}")
    ids: dict[str, int] = values["tokenizer"]["model"]["vocab"]
    return sorted(ids, key=lambda word: ids[word])


def _read_lines(path: Path) -> Iterator[tuple[int, bytes, bytes]]:
    """(line number, word, its numbers) of each line; all have as many numbers."""
    width, announced, count = 0, None, 0
    try:
        file = path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from None
    with file:
        for line, content in enumerate(file, 1):
            word, _, vector = content.rstrip().partition(b" ")
            if line == 1 and word.isdigit() and vector.isdigit():
                announced, width = int(word), int(vector)
                continue
            if not word and not vector:
                continue
            if not vector:
                raise UserError(f"{path}:{line}: has a word without numbers; separate them by spaces")
            width = width or vector.count(b" ") + 1
            if vector.count(b" ") + 1 != width:
                word, vector = _split_word_with_spaces(path, line, content, width)
            if not word.isascii():
                _check_utf8(path, line, word)
            count += 1
            yield line, word, vector
    if not count:
        raise UserError(f"{path}: is empty; give a file with a word and its numbers in each line")
    if announced is not None and count < announced:
        raise UserError(f"{path}: its first line announces {announced:,} words, but there are {count:,}: incomplete")


def _check_utf8(path: Path, line: int, word: bytes) -> None:
    try:
        word.decode()
    except UnicodeDecodeError as error:
        raise not_utf8(f"{path}:{line}", error.start) from None


def _split_word_with_spaces(path: Path, line: int, content: bytes, width: int) -> tuple[bytes, bytes]:
    """Word and vector of a line where the word itself has spaces, as in GloVe's largest file."""
    word, *vector = content.rstrip().rsplit(b" ", width)
    inside = word.split(b" ")[1:]
    if len(vector) < width or not inside or all(map(_is_number, inside)):
        count = len(content.split()) - 1
        raise UserError(f"{path}:{line}: has {count} numbers, where {width} were expected; all vectors need as many")
    return word, b" ".join(vector)


def _to_array(path: Path, lines: Sequence[int], vectors: Sequence[bytes]) -> NDArray[np.float32]:
    """Many vectors at once: pandas reads numbers about three times as fast as NumPy does."""
    import pandas as pd

    text = io.BytesIO(b"\n".join(vectors))
    try:
        with np.errstate(over="ignore"):
            array = pd.read_csv(text, sep=" ", header=None, dtype=np.float32, quoting=csv.QUOTE_NONE).to_numpy()
    except ValueError:
        array = None
    if array is None or not np.isfinite(array).all():
        for line, vector in zip(lines, vectors, strict=True):
            for number in vector.split(b" "):
                if not _is_number(number):
                    raise UserError(f"{path}:{line}: {number.decode(errors='replace')!r} is not a finite number")
    assert array is not None, "pandas and _is_number disagree"
    return np.ascontiguousarray(array)


def _is_number(text: bytes) -> bool:
    """Whether pandas reads it as a number that float32 can hold."""
    try:
        return b"_" not in text and abs(float(text)) <= FLOAT32_MAX
    except ValueError:
        return False
