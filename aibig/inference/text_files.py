"""Texts to be measured, and tokens to be shown. Knows no model."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from aibig.data.text.text_data import read_text
from aibig.data.text.token_files import tokenize
from aibig.data.text.tokenizer import Tokenizer
from aibig.errors import UserError


def tokens_of(path: str | Path, tokenizer: Tokenizer) -> Tensor:
    """The tokens (tokens,) of a file (.txt, .jsonl, .parquet), or of those in a folder.

    Raises UserError for fewer than two, or characters that the vocabulary does not know.
    """
    tokens = tokenize(read_text(path=str(path)), tokenizer).tokens
    if len(tokens) < 2:
        raise UserError(f"{path}: has too little text to measure on; give at least two tokens")
    return tokens


def likeliest(probabilities: Tensor, tokenizer: Tokenizer, count: int) -> list[tuple[str, float]]:
    """The `count` likeliest tokens of a distribution (V,), as text, with their probabilities."""
    best = probabilities.topk(min(count, len(probabilities)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [(tokenizer.decode([token]), probability) for token, probability in pairs]
