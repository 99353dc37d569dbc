"""A language model's loss over a whole text, window by window. Knows no task and no training data.

W windows, B of them at once, T tokens a window.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aibig.data.text.mask_tokens import mask_token_id, mask_tokens
from aibig.data.text.text_data import cut
from aibig.data.text.tokenizer import Tokenizer
from aibig.data.text.tokens import document_numbers
from aibig.generation.language_model import LanguageModel
from aibig.layers.token_losses import TokenScores, scores_of
from aibig.metrics.outcomes import TokenOutcome

TOKENS_AT_ONCE, WINDOWS_AT_ONCE = 16_384, 64
OPENING_TOKENS = 400


def score_text(
    model: nn.Module,
    text: Tensor,
    tokenizer: Tokenizer,
    *,
    context: int,
    carries_state: bool = False,
    borders: Tensor | None = None,
) -> TokenOutcome:
    """The loss of every token of `text` (tokens,) but the first, in windows of `context` that do not overlap.

    carries_state: the text is read as one stream, each window continuing the one before, from empty memory. borders:
    where documents begin that are to be read apart. Mode and precision of the model are the caller's. The text may
    lie elsewhere than the model, and need not fit into memory.
    """
    device = next(model.parameters()).device
    bytes_of = tokenizer.byte_lengths()
    tokens, targets, rest = cut(text, context)
    at_once = 1 if carries_state else max(1, TOKENS_AT_ONCE // context)
    batches = list(zip(tokens.split(at_once), targets.split(at_once), strict=True)) if len(tokens) else []
    if len(rest) > 1:
        batches.append((rest[None, :-1], rest[None, 1:]))
    losses, counts, sizes, state, start = [], [], [], None, 0
    for some, some_targets in batches:
        documents = None
        if borders is not None:
            places = torch.arange(start, start + some.numel(), device=borders.device).view(some.shape)
            documents = document_numbers(borders, places).to(device)
        read = (some.long().to(device), some_targets.long().to(device), state if carries_state else None)
        loss, state = _losses(model, *read, documents)
        losses.append(loss)
        counts.append(np.full(len(some), some.shape[1]))
        if bytes_of is not None:
            sizes.append(bytes_of[some_targets.cpu().numpy()].sum(1))
        start += some.numel()
    return TokenOutcome(
        torch.cat(losses).numpy(),
        np.concatenate(counts),
        None if bytes_of is None else np.concatenate(sizes),
        tokenizer.decode(text[:OPENING_TOKENS].tolist()),
    )


def score_masked_text(model: nn.Module, text: Tensor, tokenizer: Tokenizer, context: int) -> TokenOutcome:
    """The losses of hidden tokens of `text` (tokens,), the same at each call, in windows that do not overlap."""
    device, generator = next(model.parameters()).device, torch.Generator().manual_seed(0)
    windows, _, rest = cut(text, context)
    parts = [*windows.split(WINDOWS_AT_ONCE)] if len(windows) else []
    if len(rest) > 1:
        parts.append(rest[None])
    losses, counts = [], []
    for tokens in parts:
        shown, places, targets = mask_tokens(tokens.long(), mask_token_id(tokenizer), tokenizer.vocab_size, generator)
        scores, _ = model(shown.to(device), targets=targets.to(device), places=places.to(device))
        losses.append(scores.nats.view(len(tokens), -1).cpu().double().sum(1))
        counts.append(np.full(len(tokens), len(places) // len(tokens)))
    return TokenOutcome(torch.cat(losses).numpy(), np.concatenate(counts))


def scored(
    model: nn.Module, tokens: Tensor, targets: Tensor, state: Any = None, documents: Tensor | None = None
) -> tuple[TokenScores, Any]:
    """What the losses of targets (B, T) are made of, and the memory; also of a model that only gives logits."""
    apart = {} if documents is None else {"documents": documents}
    if isinstance(model, LanguageModel):
        scores, state = model(tokens, None, state, targets, **apart)
        assert isinstance(scores, TokenScores)
        return scores, state
    logits, state = model(tokens, None, state, **apart)
    return scores_of(logits, targets), state


def _losses(
    model: nn.Module, tokens: Tensor, targets: Tensor, state: Any, documents: Tensor | None
) -> tuple[Tensor, Any]:
    """The summed loss (B,) of each window in nats, and the memory after it."""
    scores, state = scored(model, tokens, targets, state, documents)
    return scores.nats.cpu().double().sum(1), state  # in this order: MPS has no float64
