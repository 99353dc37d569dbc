"""Predicts the masked tokens of a text. Knows no task and no training data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from aibig.data.text.mask_tokens import mask_token_id
from aibig.data.text.tokenizer import tokenizer_from_dict
from aibig.errors import UserError
from aibig.inference.text_files import read_tokens, top_tokens
from aibig.layers.utils.modes import eval_mode
from aibig.metrics.outcomes import TokenOutcome
from aibig.metrics.text_scores import score_masked_text
from aibig.pretrained.model_folder import inference_device

MASK = "[MASK]"


class FillMaskPredictor:
    """A model of masked tokens, with its tokenizer.

    Args:
        model: module that returns logits (B, T, V) for tokens (B, T), and state.
        inference_config: contents of model.json.
    """

    def __init__(self, model: nn.Module, inference_config: dict[str, Any]) -> None:
        self.device = inference_device()
        self.model = model.to(self.device).eval()
        self.tokenizer = tokenizer_from_dict(inference_config["tokenizer"])
        self.context: int = inference_config["context"]

    def next_tokens(self, text: str, count: int = 10) -> list[tuple[str, float]]:
        """The most probable tokens for the first [MASK] of a text, and their probabilities.

        Args:
            text: text with a [MASK]; any further [MASK] is left out.
            count: number of tokens.

        Raises:
            UserError: there is no [MASK], or the text is longer than the model's context.
        """
        before, mask, after = str(text).partition(MASK)
        if not mask:
            raise UserError(f"the text has no {MASK} to fill; write it where a token is missing")
        left, right = (self.tokenizer.encode(part.replace(MASK, "")).tolist() for part in (before, after))
        tokens = [*left, mask_token_id(self.tokenizer), *right]
        if len(tokens) > self.context:
            raise UserError(f"the text has {len(tokens)} tokens, more than the model's context of {self.context}")
        with torch.no_grad():
            logits, _ = self.model(torch.tensor([tokens], device=self.device))
        probabilities = logits[0, len(left), : self.tokenizer.vocab_size].float().softmax(0)
        return top_tokens(probabilities, self.tokenizer, count)

    def outcome(self, path: str | Path) -> TokenOutcome:
        """The loss of masked tokens of a text; the same tokens are masked at each call.

        Args:
            path: see `read_tokens`.
        """
        with eval_mode(self.model):
            return score_masked_text(self.model, read_tokens(path, self.tokenizer), self.tokenizer, self.context)
