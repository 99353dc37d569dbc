"""A model's embedding initialised from word vectors, whatever the task. Knows no task and no model by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from aibig.config.run_config import Config
from aibig.data.text.tokenizer import Tokenizer
from aibig.data.text.word_vectors import load_word_vectors, vector_width, words_by_id
from aibig.errors import UserError
from aibig.seeds import derive_seed


def word_vectors_path(config: Config) -> str | None:
    """The file of word vectors that a run starts from; None also if a checkpoint's weights will replace them.

    Args:
        config: of the run.

    Raises:
        UserError: word vectors are to be frozen, but there are none.
    """
    task = config.section("task")
    path: str | None = task["word_vectors"]
    if path is None and task["freeze_word_vectors"]:
        raise UserError("freeze_word_vectors: there are none to freeze; name their file in word_vectors")
    return None if config.skip_initial_weights else path


def embedding_settings(path: str | None) -> dict[str, Any]:
    """The model settings that word vectors decide, under every name that models give them.

    Args:
        path: of the word vectors; None for none.
    """
    if path is None:
        return {}
    width = vector_width(path)
    return {"embedding": width, "width": width}


@torch.no_grad()
def init_word_vectors(
    model: nn.Module, path: str | None, freeze: bool, tokenizer: Tokenizer, tokens: Tensor, seed: int
) -> list[str]:
    """Initialise `model.embedding` from a file of word vectors, and freeze it if asked to.

    Args:
        model: with an embedding of the vectors' width.
        path: of the word vectors; None for none.
        freeze: whether the embedding is not trained.
        tokenizer: whose words the embedding is for.
        tokens: ids of the training text, (tokens,).
        seed: of random vectors for words that the file lacks; the same on every rank.

    Returns:
        How much of the vocabulary and of the text the file covers, as a line, if there is a file.

    Raises:
        UserError: tokens are not words, or the model has no embedding of that width.
    """
    if path is None and not freeze:
        return []
    embedding = getattr(model, "embedding", None)
    if not isinstance(embedding, nn.Embedding):
        raise UserError(f"word_vectors: a {type(model).__name__} has no embedding to initialise from them")
    embedding.weight.requires_grad_(not freeze)
    if path is None:
        return []
    generator = torch.Generator().manual_seed(derive_seed(seed, "word vectors"))
    vectors = load_word_vectors(path, words_by_id(tokenizer), generator)
    if embedding.weight.shape != vectors.matrix.shape:
        widths = f"{vectors.matrix.shape[1]} numbers, the model's embedding {embedding.embedding_dim}"
        raise UserError(f"word_vectors: {path}: its vectors have {widths}; they must have as many")
    embedding.weight.copy_(vectors.matrix)
    return [vectors.coverage(tokens)]
