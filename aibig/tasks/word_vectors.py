"""A model's embedding taken from word vectors, whatever the task. Knows no task and no model by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from aibig.config.run_config import Config
from aibig.data.text.tokenizer import Tokenizer
from aibig.data.text.word_vectors import vector_width, word_vectors, words_of
from aibig.errors import UserError
from aibig.seeds import derive_seed


def first_vectors(config: Config) -> str | None:
    """The file of word vectors that a run begins with; None also where a checkpoint's weights take their place."""
    task = config.section("task")
    path: str | None = task["word_vectors"]
    if path is None and task["freeze_word_vectors"]:
        raise UserError("freeze_word_vectors: there are none to freeze; name their file in word_vectors")
    return None if config.weights_follow else path


def embedding_settings(path: str | None) -> dict[str, Any]:
    """The settings of a model that word vectors decide, under every name that models give them."""
    if path is None:
        return {}
    width = vector_width(path)
    return {"embedding": width, "width": width}


@torch.no_grad()
def give_word_vectors(
    model: nn.Module, path: str | None, freeze: bool, tokenizer: Tokenizer, tokens: Tensor, seed: int
) -> list[str]:
    """Fill `model.embedding` with the vectors of a file, if any; returns what of the training text's `tokens` (tokens,)
    was found, a line, if any.

    freeze: it is not trained. seed: of those that are drawn, so that every rank draws the same.

    Raises UserError for tokens that are no words, and a model without an embedding of the vectors' width.
    """
    if path is None and not freeze:
        return []
    embedding = getattr(model, "embedding", None)
    if not isinstance(embedding, nn.Embedding):
        raise UserError(f"word_vectors: a {type(model).__name__} has no embedding to begin with them")
    embedding.weight.requires_grad_(not freeze)
    if path is None:
        return []
    vectors = word_vectors(path, words_of(tokenizer), torch.Generator().manual_seed(derive_seed(seed, "word vectors")))
    if embedding.weight.shape != vectors.matrix.shape:
        widths = f"{vectors.matrix.shape[1]} numbers, the model's embedding {embedding.embedding_dim}"
        raise UserError(f"word_vectors: {path}: its vectors have {widths}; they must have as many")
    embedding.weight.copy_(vectors.matrix)
    return [vectors.coverage(tokens)]
