"""Reads token ids from files of texts, and decodes the most probable tokens. Knows no model.

V vocabulary.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from aibig.data.text.text_data import read_text
from aibig.data.text.token_files import tokenize
from aibig.data.text.tokenizer import Tokenizer
from aibig.errors import UserError


def read_tokens(path: str | Path, tokenizer: Tokenizer) -> Tensor:
    """The token ids of a text, (tokens,).

    Args:
        path: file (.txt, .jsonl, .parquet), or folder of such files.
        tokenizer: tokenizer of the model.

    Raises:
        UserError: there are fewer than two tokens, or characters that the vocabulary lacks.
    """
    tokens = tokenize(read_text(path=str(path)), tokenizer).tokens
    if len(tokens) < 2:
        raise UserError(f"{path}: has too little text to evaluate; give at least two tokens")
    return tokens


def top_tokens(probabilities: Tensor, tokenizer: Tokenizer, count: int) -> list[tuple[str, float]]:
    """The most probable tokens, as text, with their probabilities.

    Args:
        probabilities: probabilities of all tokens, (V,).
        tokenizer: tokenizer of the model.
        count: number of tokens.
    """
    top = probabilities.topk(min(count, len(probabilities)))
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return [(tokenizer.decode([token]), probability) for token, probability in pairs]
