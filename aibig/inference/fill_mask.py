"""Texts with blanks that an encoder fills: hidden tokens, and their losses. Knows no task and no training data.

B batch, T time, K hidden tokens of a row.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from aibig.data.text.mask_tokens import mask_token_id
from aibig.data.text.tokenizer import tokenizer_from_dict
from aibig.errors import UserError
from aibig.inference.text_files import likeliest, tokens_of
from aibig.layers.modes import evaluating
from aibig.metrics.outcomes import TokenOutcome
from aibig.metrics.text_scores import score_masked_text
from aibig.pretrained.model_folder import inference_device

BLANK = "[MASK]"


class FillMaskPredictor:
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
        tokens = [*ahead, mask_token_id(self.tokenizer), *behind]
        if len(tokens) > self.context:
            raise UserError(f"the text has {len(tokens)} tokens, more than the model's context of {self.context}")
        with torch.no_grad():
            logits, _ = self.model(torch.tensor([tokens], device=self.device))
        likely = logits[0, len(ahead), : self.tokenizer.vocab_size].float().softmax(0)
        return likeliest(likely, self.tokenizer, count)

    def outcome(self, path: str | Path) -> TokenOutcome:
        """The losses of hidden tokens of all that `tokens_of` finds."""
        with evaluating(self.model):
            return score_masked_text(self.model, tokens_of(path, self.tokenizer), self.tokenizer, self.context)
