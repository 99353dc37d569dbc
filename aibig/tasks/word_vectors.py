"""A model's embedding taken from word vectors, whatever the task. Knows no task and no model by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from aibig.data.tokenizer import Tokenizer
from aibig.data.word_vectors import vector_width, word_vectors, words_of
from aibig.errors import UserError
from aibig.seeds import derive_seed


def embedding_settings(path: str | None) -> dict[str, Any]:
    """The settings of a model that word vectors decide, under every name that models give them."""
    if path is None:
        return {}
    width = vector_width(path)
    return {"embedding": width, "width": width}


@torch.no_grad()
def give_word_vectors(
    model: nn.Module, path: str, tokenizer: Tokenizer, tokens: Tensor, *, seed: int, freeze: bool = False
) -> str:
    """Fill `model.embedding` with the vectors of a file; returns what of the training text's `tokens` was found.

    freeze: they are not trained. seed: of those that are drawn, so that every rank draws the same.

    Raises UserError for tokens that are no words, and a model without an embedding of the vectors' width.
    """
    vectors = word_vectors(path, words_of(tokenizer), torch.Generator().manual_seed(derive_seed(seed, "word vectors")))
    embedding = getattr(model, "embedding", None)
    if not isinstance(embedding, nn.Embedding) or embedding.weight.shape != vectors.matrix.shape:
        shape = f"of width {embedding.embedding_dim}" if isinstance(embedding, nn.Embedding) else "missing"
        raise UserError(
            f"word_vectors: {path} has vectors of {vectors.matrix.shape[1]}, the model's embedding is {shape}"
        )
    embedding.weight.copy_(vectors.matrix)
    embedding.weight.requires_grad_(not freeze)
    return vectors.coverage(tokens)
