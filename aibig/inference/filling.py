"""Texts with blanks that an encoder fills: hidden tokens, and their losses. Knows no task and no training data.

B batch, T time, K hidden tokens of a row.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aibig.data.text import cut
from aibig.data.tokenizer import Tokenizer, tokenizer_from_dict
from aibig.errors import UserError
from aibig.inference.model_folder import inference_device
from aibig.inference.modes import evaluating
from aibig.inference.reading import likeliest, tokens_of
from aibig.outcomes import Tokens

BLANK = "[MASK]"
HIDDEN = 0.15  # of the tokens (BERT, arXiv 1810.04805, section 3.1)
WINDOWS_AT_ONCE = 64


def mask_token(tokenizer: Tokenizer) -> int:
    """The token that stands for a hidden one: the tokenizer's own, or one more than it has."""
    return tokenizer.vocab_size if tokenizer.blank is None else tokenizer.blank


def adds_blank(facts: dict[str, Any]) -> bool:
    """Whether the model of `facts`, what model.json holds, fills blanks by a token more than its tokenizer has."""
    if facts.get("predictor") != "blanks":
        return False
    tokenizer = tokenizer_from_dict(facts["tokenizer"])
    return mask_token(tokenizer) == tokenizer.vocab_size


def hide(tokens: Tensor, mask: int, vocab_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """tokens (B, T) with some hidden, their places b T + t (B K,) and what they are (B K,).

    Of the chosen, 80% become `mask`, 10% any token, 10% stay (arXiv 1810.04805, appendix A.1).
    """
    batch, time = tokens.shape
    count = max(1, round(HIDDEN * time))
    chosen = torch.rand(batch, time, generator=generator).argsort(1)[:, :count]
    places = (chosen + torch.arange(batch).unsqueeze(1) * time).flatten().to(tokens.device)
    targets = tokens.flatten()[places]
    draws = torch.rand(len(places), generator=generator).to(tokens.device)
    others = torch.randint(vocab_size, (len(places),), generator=generator).to(tokens.device)
    shown = torch.where(draws < 0.8, mask, torch.where(draws < 0.9, others, targets))
    return tokens.flatten().index_put((places,), shown).view(batch, time), places, targets


def read_with_blanks(model: nn.Module, text: Tensor, tokenizer: Tokenizer, context: int) -> Tokens:
    """The losses of hidden tokens of `text` (tokens,), the same at each call, in windows that do not overlap."""
    device, generator = next(model.parameters()).device, torch.Generator().manual_seed(0)
    windows, _, rest = cut(text, context)
    parts = [*windows.split(WINDOWS_AT_ONCE)] if len(windows) else []
    if len(rest) > 1:
        parts.append(rest[None])
    losses, counts = [], []
    for tokens in parts:
        shown, places, targets = hide(tokens.long(), mask_token(tokenizer), tokenizer.vocab_size, generator)
        scores, _ = model(shown.to(device), targets=targets.to(device), places=places.to(device))
        losses.append(scores.nats.view(len(tokens), -1).cpu().double().sum(1))
        counts.append(np.full(len(tokens), len(places) // len(tokens)))
    return Tokens(torch.cat(losses).numpy(), np.concatenate(counts))


class BlankFiller:
    """An encoder with its tokenizer. facts: what model.json holds."""

    def __init__(self, model: nn.Module, facts: dict[str, Any]) -> None:
        self.device = inference_device()
        self.model = model.to(self.device).eval()
        self.tokenizer = tokenizer_from_dict(facts["tokenizer"])
        self.context: int = facts["context"]

    def next_tokens(self, text: str, count: int = 10) -> list[tuple[str, float]]:
        """The likeliest tokens for the first [MASK] in `text`, and their probabilities.

        Raises UserError for a text without, or one longer than the model's context.
        """
        before, blank, after = str(text).partition(BLANK)
        if not blank:
            raise UserError(f"the text has no {BLANK} to fill; write it where a token is missing")
        ahead, behind = (self.tokenizer.encode(one.replace(BLANK, "")).tolist() for one in (before, after))
        tokens = [*ahead, mask_token(self.tokenizer), *behind]
        if len(tokens) > self.context:
            raise UserError(f"the text has {len(tokens)} tokens, more than the model's context of {self.context}")
        with torch.no_grad():
            logits, _ = self.model(torch.tensor([tokens], device=self.device))
        likely = logits[0, len(ahead), : self.tokenizer.vocab_size].float().softmax(0)
        return likeliest(likely, self.tokenizer, count)

    def outcome(self, path: str | Path) -> Tokens:
        """The losses of hidden tokens of all that `tokens_of` finds."""
        with evaluating(self.model):
            return read_with_blanks(self.model, tokens_of(path, self.tokenizer), self.tokenizer, self.context)
