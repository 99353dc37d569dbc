"""Replacing tokens by a mask token, for models that learn to predict them. Knows no model.

B batch, T time, K masked tokens of a row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aibig.data.text.tokenizer import Tokenizer, tokenizer_from_dict

MASKED_FRACTION = 0.15  # of the tokens (BERT, arXiv 1810.04805, section 3.1)


def mask_token_id(tokenizer: Tokenizer) -> int:
    """The id of the mask token: the tokenizer's own, or the first id beyond its vocabulary.

    Args:
        tokenizer: of the text.
    """
    return tokenizer.vocab_size if tokenizer.mask_token_id is None else tokenizer.mask_token_id


def adds_mask_token(inference_config: dict[str, Any]) -> bool:
    """Whether a saved model has a mask token that its tokenizer lacks.

    Args:
        inference_config: contents of the model's model.json.
    """
    if inference_config.get("predictor") != "fill_mask":
        return False
    tokenizer = tokenizer_from_dict(inference_config["tokenizer"])
    return mask_token_id(tokenizer) == tokenizer.vocab_size


def mask_tokens(
    tokens: Tensor, mask_id: int, vocab_size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose 15% of each row: 80% of these become the mask token, 10% a random token, 10% stay (BERT, appendix A.1).

    Args:
        tokens: ids, (B, T).
        mask_id: id of the mask token.
        vocab_size: random tokens are drawn from this many ids.
        generator: of the random numbers, on the CPU.

    Returns:
        The masked tokens (B, T); the chosen positions b T + t, (B K,); the original tokens there, (B K,).
    """
    batch, time = tokens.shape
    count = max(1, round(MASKED_FRACTION * time))
    chosen = torch.rand(batch, time, generator=generator).argsort(1)[:, :count]
    positions = (chosen + torch.arange(batch).unsqueeze(1) * time).flatten().to(tokens.device)
    targets = tokens.flatten()[positions]
    uniform = torch.rand(len(positions), generator=generator).to(tokens.device)
    random_tokens = torch.randint(vocab_size, (len(positions),), generator=generator).to(tokens.device)
    replacements = torch.where(uniform < 0.8, mask_id, torch.where(uniform < 0.9, random_tokens, targets))
    return tokens.flatten().index_put((positions,), replacements).view(batch, time), positions, targets
