"""A language model's loss over a whole text, window by window. Knows no task and no training data.

W windows, B of them at once, T tokens a window.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aibig.data.text import cut
from aibig.data.tokenizer import Tokenizer
from aibig.layers.language_model import LanguageModel
from aibig.layers.token_losses import TokenScores, scores_of
from aibig.outcomes import Tokens

TOKENS_AT_ONCE = 16_384
OPENING_TOKENS = 400


def read_through(
    model: nn.Module, text: Tensor, tokenizer: Tokenizer, *, context: int, carries_memory: bool = False
) -> Tokens:
    """The loss of every token of `text` (tokens,) but the first, in windows of `context` that do not overlap.

    carries_memory: the text is read as one stream, each window continuing the one before, from empty memory. Mode
    and precision of the model are the caller's.
    """
    tokens, targets, rest = cut(text, context)
    at_once = 1 if carries_memory else max(1, TOKENS_AT_ONCE // context)
    batches = list(zip(tokens.split(at_once), targets.split(at_once), strict=True)) if len(tokens) else []
    if len(rest) > 1:
        batches.append((rest[None, :-1], rest[None, 1:]))
    losses, memory = [], None
    for some, some_targets in batches:
        loss, memory = _losses(model, some, some_targets, memory if carries_memory else None)
        losses.append(loss)
    lengths = tokenizer.byte_lengths()
    windows = [targets.cpu().numpy(), rest[None, 1:].cpu().numpy()] if len(rest) > 1 else [targets.cpu().numpy()]
    return Tokens(
        torch.cat(losses).numpy(),
        np.concatenate([np.full(len(one), one.shape[1]) for one in windows]),
        None if lengths is None else np.concatenate([lengths[one].sum(1) for one in windows]),
        tokenizer.decode(text[:OPENING_TOKENS].tolist()),
    )


def scored(
    model: nn.Module, tokens: Tensor, targets: Tensor, memory: Any = None, documents: Tensor | None = None
) -> tuple[TokenScores, Any]:
    """What the losses of targets (B, T) are made of, and the memory; also of a model that only gives logits."""
    apart = {} if documents is None else {"documents": documents}
    if isinstance(model, LanguageModel):
        scores, memory = model(tokens, None, memory, targets, **apart)
        assert isinstance(scores, TokenScores)
        return scores, memory
    logits, memory = model(tokens, None, memory, **apart)
    return scores_of(logits, targets), memory


def _losses(model: nn.Module, tokens: Tensor, targets: Tensor, memory: Any) -> tuple[Tensor, Any]:
    """The summed loss (B,) of each window in nats, and the memory after it."""
    scores, memory = scored(model, tokens, targets, memory)
    return scores.nats.cpu().double().sum(1), memory  # in this order: MPS has no float64
