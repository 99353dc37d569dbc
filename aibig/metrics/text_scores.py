"""The loss of a language model over a text, in windows. Knows no task and no training data.

B windows of a batch, T tokens of a window, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aibig.data.text.mask_tokens import mask_token_id, mask_tokens
from aibig.data.text.text_data import split_into_windows
from aibig.data.text.tokenizer import Tokenizer
from aibig.data.text.tokens import document_ids_at
from aibig.generation.language_model import LanguageModel
from aibig.layers.token_losses import TokenLossTerms, loss_terms_from_logits
from aibig.metrics.outcomes import TokenOutcome

TOKENS_PER_BATCH, MASKED_WINDOWS_PER_BATCH = 16_384, 64
OPENING_TOKENS = 400


def score_text(
    model: nn.Module,
    text: Tensor,
    tokenizer: Tokenizer,
    *,
    context: int,
    carries_state: bool = False,
    boundaries: Tensor | None = None,
) -> TokenOutcome:
    """The loss of every token but the first, in windows that do not overlap.

    The caller sets eval mode and autocast. The text may be on another device than the model, or memory-mapped.

    Args:
        model: language model, or module that returns logits and state.
        text: token ids, (tokens,).
        tokenizer: of the text.
        context: tokens of a window.
        carries_state: whether each window continues from the model's state after the previous one.
        boundaries: positions where documents begin, if they are read apart.
    """
    device = next(model.parameters()).device
    byte_lengths = tokenizer.byte_lengths()
    tokens, targets, rest = split_into_windows(text, context)
    batch_size = 1 if carries_state else max(1, TOKENS_PER_BATCH // context)
    batches = list(zip(tokens.split(batch_size), targets.split(batch_size), strict=True)) if len(tokens) else []
    if len(rest) > 1:
        batches.append((rest[None, :-1], rest[None, 1:]))
    losses, counts, num_bytes, state, start = [], [], [], None, 0
    for tokens, targets in batches:
        document_ids = None
        if boundaries is not None:
            positions = torch.arange(start, start + tokens.numel(), device=boundaries.device).view(tokens.shape)
            document_ids = document_ids_at(boundaries, positions).to(device)
        inputs = (tokens.long().to(device), targets.long().to(device), state if carries_state else None)
        terms, state = score_tokens(model, *inputs, document_ids)
        losses.append(terms.cross_entropy.cpu().double().sum(1))  # in this order: MPS has no float64
        counts.append(np.full(len(tokens), tokens.shape[1]))
        if byte_lengths is not None:
            num_bytes.append(byte_lengths[targets.cpu().numpy()].sum(1))
        start += tokens.numel()
    return TokenOutcome(
        torch.cat(losses).numpy(),
        np.concatenate(counts),
        None if byte_lengths is None else np.concatenate(num_bytes),
        tokenizer.decode(text[:OPENING_TOKENS].tolist()),
    )


def score_masked_text(model: nn.Module, text: Tensor, tokenizer: Tokenizer, context: int) -> TokenOutcome:
    """The loss of masked tokens, in windows that do not overlap. The same tokens are masked at each call.

    Args:
        model: bidirectional model, whose forward has a parameter `masked_positions`.
        text: token ids, (tokens,).
        tokenizer: of the text.
        context: tokens of a window.
    """
    device, generator = next(model.parameters()).device, torch.Generator().manual_seed(0)
    windows, _, rest = split_into_windows(text, context)
    batches = [*windows.split(MASKED_WINDOWS_PER_BATCH)] if len(windows) else []
    if len(rest) > 1:
        batches.append(rest[None])
    losses, counts = [], []
    mask_id = mask_token_id(tokenizer)
    for tokens in batches:
        masked, positions, targets = mask_tokens(tokens.long(), mask_id, tokenizer.vocab_size, generator)
        terms, _ = model(masked.to(device), targets=targets.to(device), masked_positions=positions.to(device))
        losses.append(terms.cross_entropy.view(len(tokens), -1).cpu().double().sum(1))
        counts.append(np.full(len(tokens), len(positions) // len(tokens)))
    return TokenOutcome(torch.cat(losses).numpy(), np.concatenate(counts))


def score_tokens(
    model: nn.Module, tokens: Tensor, targets: Tensor, state: Any = None, document_ids: Tensor | None = None
) -> tuple[TokenLossTerms, Any]:
    """The terms of the targets' losses, also for a module that only returns logits and state.

    Args:
        model: language model, or module that returns logits and state.
        tokens: ids, (B, T).
        targets: ids that follow, (B, T).
        state: state of the model after the previous tokens.
        document_ids: document of each token, (B, T); None: documents are concatenated.

    Returns:
        Loss terms, each (B, T), and the model's state after these tokens.
    """
    apart = {} if document_ids is None else {"document_ids": document_ids}
    if isinstance(model, LanguageModel):
        terms, state = model(tokens, None, state, targets, **apart)
        assert isinstance(terms, TokenLossTerms)
        return terms, state
    logits, state = model(tokens, None, state, **apart)
    return loss_terms_from_logits(logits, targets), state
