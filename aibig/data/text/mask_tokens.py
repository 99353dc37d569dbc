"""Tokens replaced by a mask token, for models that are to predict them. Knows no model.

B batch, T time, K masked tokens of a row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aibig.data.text.tokenizer import Tokenizer, tokenizer_from_dict

MASKED_FRACTION = 0.15  # of the tokens (BERT, arXiv 1810.04805, section 3.1)


def mask_token_id(tokenizer: Tokenizer) -> int:
    """The token that stands for a hidden one: the tokenizer's own, or one more than it has."""
    return tokenizer.vocab_size if tokenizer.blank is None else tokenizer.blank


def adds_mask_token(facts: dict[str, Any]) -> bool:
    """Whether the model of `facts`, what model.json holds, fills blanks by a token more than its tokenizer has."""
    if facts.get("predictor") != "blanks":
        return False
    tokenizer = tokenizer_from_dict(facts["tokenizer"])
    return mask_token_id(tokenizer) == tokenizer.vocab_size


def mask_tokens(
    tokens: Tensor, mask: int, vocab_size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """tokens (B, T) with some hidden, their places b T + t (B K,) and what they are (B K,).

    Of the chosen, 80% become `mask`, 10% any token, 10% stay (arXiv 1810.04805, appendix A.1).
    """
    batch, time = tokens.shape
    count = max(1, round(MASKED_FRACTION * time))
    chosen = torch.rand(batch, time, generator=generator).argsort(1)[:, :count]
    places = (chosen + torch.arange(batch).unsqueeze(1) * time).flatten().to(tokens.device)
    targets = tokens.flatten()[places]
    draws = torch.rand(len(places), generator=generator).to(tokens.device)
    others = torch.randint(vocab_size, (len(places),), generator=generator).to(tokens.device)
    shown = torch.where(draws < 0.8, mask, torch.where(draws < 0.9, others, targets))
    return tokens.flatten().index_put((places,), shown).view(batch, time), places, targets
