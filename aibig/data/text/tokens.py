"""Documents to token ids, chunk by chunk. Knows no files and no windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aibig.data.text.documents import DOCUMENT_SEPARATOR, Chunk, Documents
from aibig.data.text.tokenizer import Tokenizer, make_tokenizer
from aibig.errors import UserError

CHUNKS_PER_BATCH = 16  # 1 to 2 MB of text: enough for all cores, where a tokenizer uses them


@dataclass
class TokenizedText:
    """The token ids of all documents in order.

    What separates two documents, an end-of-text token or a blank line, begins the second: the model predicts it from
    the first document, and predicts the second document from it.

    Args:
        tokens: ids, (tokens,).
        boundaries: where each document but the first begins, (documents - 1,).
        tokenizer: that made the ids.
        folder: of the files with the ids, if they are memory-mapped.
        digest: hash of the ids in those files.
    """

    tokens: Tensor
    boundaries: Tensor
    tokenizer: Tokenizer
    folder: Path | None = None
    digest: str = ""

    def boundaries_within(self, start: int, length: int) -> Tensor:
        """The boundaries inside a range of tokens, relative to its start.

        Args:
            start: index of the first token.
            length: in tokens.
        """
        first, last = torch.searchsorted(self.boundaries, torch.tensor([start + 1, start + length])).tolist()
        return self.boundaries[first:last] - start


def tokenize_in_memory(documents: Documents, tokenizer: str | Tokenizer, vocab_size: int) -> TokenizedText:
    """The token ids of all documents, as int64.

    Args:
        documents: to tokenize.
        tokenizer: see `tokenizer_for`.
        vocab_size: see `tokenizer_for`.
    """
    tokenizer = tokenizer_for(documents.chunks(), tokenizer, vocab_size, documents.multiple)
    encoded = list(encode_chunks(documents.chunks(), tokenizer))
    empty = np.zeros(0, dtype=np.int64)
    tokens, boundaries = (np.concatenate([empty, *(pair[column] for pair in encoded)]) for column in (0, 1))
    return TokenizedText(torch.from_numpy(tokens), torch.from_numpy(boundaries), tokenizer)


def tokenizer_for(chunks: Iterable[Chunk], tokenizer: str | Tokenizer, vocab_size: int, multiple: bool) -> Tokenizer:
    """The tokenizer itself, or the one that `make_tokenizer` trains on the chunks.

    Args:
        chunks: of the documents.
        tokenizer: one that exists, or the `kind` of `make_tokenizer`.
        vocab_size: see `make_tokenizer`.
        multiple: whether there is more than one document: then BPE has an end-of-text token.
    """
    if isinstance(tokenizer, Tokenizer):
        return tokenizer
    separator = [DOCUMENT_SEPARATOR] if multiple else []
    texts = (text for chunk in chunks for text in (*(separator if chunk.begins_document else []), chunk.text))
    return make_tokenizer(tokenizer, texts, vocab_size, with_eos_token=multiple)


def encode_chunks(
    chunks: Iterable[Chunk], tokenizer: Tokenizer
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The token ids of each chunk, with the separator before a document, and the positions where documents begin there.

    Where the tokenizer has an end-of-text token, each of these begins a document, also one written in a text.

    Args:
        chunks: of the documents.
        tokenizer: that encodes them.

    Yields:
        Token ids, and boundaries as positions among the tokens of all chunks.

    Raises:
        UserError: a text that the vocabulary can't express, named with its location.
    """
    eos_token_id, chunks, count = tokenizer.eos_token_id, iter(chunks), 0
    while batch := list(islice(chunks, CHUNKS_PER_BATCH)):
        for chunk, tokens in zip(batch, _encode_batch(batch, tokenizer), strict=True):
            needs_separator = chunk.begins_document and count > 0
            if needs_separator:
                separator = tokenizer.encode(DOCUMENT_SEPARATOR) if eos_token_id is None else [eos_token_id]
                tokens = np.concatenate([separator, tokens])
            is_boundary = tokens == eos_token_id
            boundaries = np.arange(needs_separator) if eos_token_id is None else np.flatnonzero(is_boundary)
            yield tokens, boundaries + count
            count += len(tokens)


def _encode_batch(chunks: list[Chunk], tokenizer: Tokenizer) -> list[NDArray[np.int64]]:
    try:
        return tokenizer.encode_batch([chunk.text for chunk in chunks])
    except UserError:
        return [_encode_chunk(chunk, tokenizer) for chunk in chunks]


def _encode_chunk(chunk: Chunk, tokenizer: Tokenizer) -> NDArray[np.int64]:
    try:
        return tokenizer.encode(chunk.text)
    except UserError as error:
        raise UserError(f"{chunk.location}: {error}") from None


def document_ids_at(boundaries: Tensor, positions: Tensor) -> Tensor:
    """The index of the document that each position is in.

    Args:
        boundaries: where each document but the first begins, (documents - 1,).
        positions: of tokens, of any shape.

    Returns:
        Document indices, of the shape of `positions`.
    """
    return torch.searchsorted(boundaries, positions, right=True)
