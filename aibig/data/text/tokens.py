"""Documents to token numbers, piece by piece. Knows no files and no windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aibig.data.text.documents import BETWEEN_DOCUMENTS, Documents, Piece
from aibig.data.text.tokenizer import Tokenizer, make_tokenizer
from aibig.errors import UserError

PIECES_AT_ONCE = 16  # 1 to 2 MB of text: enough to keep all cores of a tokenizer that uses them busy


@dataclass
class TokenizedText:
    """Token numbers (tokens,), and where each document but the first begins (documents - 1,).

    What stands between two documents, a token or a blank line, opens the second: it is foretold from the first, and
    foretells the second.
    """

    tokens: Tensor
    borders: Tensor
    tokenizer: Tokenizer
    folder: Path | None = None  # where the numbers lie that are mapped into memory
    digest: str = ""  # of those numbers

    def borders_within(self, begin: int, length: int) -> Tensor:
        """Those of the `length` tokens from `begin` on, counted from there."""
        first, last = torch.searchsorted(self.borders, torch.tensor([begin + 1, begin + length])).tolist()
        return self.borders[first:last] - begin


def tokenize_in_memory(documents: Documents, tokenizer: str | Tokenizer, vocab_size: int) -> TokenizedText:
    """All numbers as int64; tokenizer, vocab_size: see `tokenizer_for`."""
    made = tokenizer_for(documents.pieces(), tokenizer, vocab_size, documents.several)
    parts = list(encode(documents.pieces(), made))
    nothing = np.zeros(0, dtype=np.int64)
    tokens, borders = (np.concatenate([nothing, *(part[column] for part in parts)]) for column in (0, 1))
    return TokenizedText(torch.from_numpy(tokens), torch.from_numpy(borders), made)


def tokenizer_for(pieces: Iterable[Piece], tokenizer: str | Tokenizer, vocab_size: int, several: bool) -> Tokenizer:
    """The tokenizer itself, or what `make_tokenizer` makes of the pieces; of several documents, BPE has a token that
    stands between them.
    """
    if isinstance(tokenizer, Tokenizer):
        return tokenizer
    between = [BETWEEN_DOCUMENTS] if several else []
    texts = (text for piece in pieces for text in (*(between if piece.opens else []), piece.text))
    return make_tokenizer(tokenizer, texts, vocab_size, end_of_text=several)


def encode(pieces: Iterable[Piece], tokenizer: Tokenizer) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The tokens of each piece with what stands before it, and at which numbers of all tokens documents begin there.

    Where the tokenizer has an end-of-text token, it is what begins a document, also one that is written in a text.

    Raises UserError naming the place of what the vocabulary can't express.
    """
    end_of_text, pieces, count = tokenizer.end_of_text, iter(pieces), 0
    while batch := list(islice(pieces, PIECES_AT_ONCE)):
        for piece, tokens in zip(batch, _encode_batch(batch, tokenizer), strict=True):
            begins = piece.opens and count > 0
            if begins:
                between = tokenizer.encode(BETWEEN_DOCUMENTS) if end_of_text is None else [end_of_text]
                tokens = np.concatenate([between, tokens])
            borders = np.flatnonzero(tokens == end_of_text) if end_of_text is not None else np.arange(begins)
            yield tokens, borders + count
            count += len(tokens)


def _encode_batch(pieces: list[Piece], tokenizer: Tokenizer) -> list[NDArray[np.int64]]:
    try:
        return tokenizer.encode_all([piece.text for piece in pieces])
    except UserError:
        return [_encode_one(piece, tokenizer) for piece in pieces]


def _encode_one(piece: Piece, tokenizer: Tokenizer) -> NDArray[np.int64]:
    try:
        return tokenizer.encode(piece.text)
    except UserError as error:
        raise UserError(f"{piece.place}: {error}") from None


def document_numbers(borders: Tensor, places: Tensor) -> Tensor:
    """The number of the document that each of `places` is in, of the same shape."""
    return torch.searchsorted(borders, places, right=True)
