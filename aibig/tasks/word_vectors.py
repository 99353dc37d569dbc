"""Initialises a model's embedding from word vectors. Knows no task and no model by name."""

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
    """The file of initial word vectors; None also if the weights of a checkpoint replace them.

    Args:
        config: config of the run.

    Raises:
        UserError: word vectors are frozen, but there are none.
    """
    task = config.section("task")
    path: str | None = task["word_vectors"]
    if path is None and task["freeze_word_vectors"]:
        raise UserError("freeze_word_vectors: there are no word vectors; set word_vectors to their file")
    return None if config.skip_initial_weights else path


def embedding_settings(path: str | None) -> dict[str, Any]:
    """The model settings that word vectors decide, by all names that models have for them.

    Args:
        path: file of word vectors, or None.
    """
    if path is None:
        return {}
    width = vector_width(path)
    return {"embedding": width, "width": width}


@torch.no_grad()
def init_word_vectors(
    model: nn.Module, path: str | None, freeze: bool, tokenizer: Tokenizer, tokens: Tensor, seed: int
) -> list[str]:
    """Initialise `model.embedding` from a file of word vectors, and freeze it if `freeze` is set.

    Args:
        model: model with an embedding of the vectors' width.
        path: file of word vectors, or None.
        freeze: whether the embedding is frozen.
        tokenizer: tokenizer of the model.
        tokens: ids of the training text, (tokens,).
        seed: seed of random vectors for words that the file lacks; the same on all ranks.

    Returns:
        A note on the coverage of vocabulary and text, if there is a file.

    Raises:
        UserError: tokens are not words, or the model has no embedding of that width.
    """
    if path is None and not freeze:
        return []
    embedding = getattr(model, "embedding", None)
    if not isinstance(embedding, nn.Embedding):
        raise UserError(f"word_vectors: a {type(model).__name__} has no embedding; use another model")
    embedding.weight.requires_grad_(not freeze)
    if path is None:
        return []
    generator = torch.Generator().manual_seed(derive_seed(seed, "word vectors"))
    vectors = load_word_vectors(path, words_by_id(tokenizer), generator)
    if embedding.weight.shape != vectors.matrix.shape:
        widths = f"{vectors.matrix.shape[1]} numbers, the model's embedding {embedding.embedding_dim}"
        raise UserError(f"word_vectors: {path}: its vectors have {widths}; both must be equal")
    embedding.weight.copy_(vectors.matrix)
    return [vectors.coverage(tokens)]
