"""What every language model is: tokens in, scores of the next token out, with lengths and memory.

B batch, T time, V vocabulary, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn


class LanguageModel(nn.Module, ABC):
    """Scores of the next token after each token; or, with `num_classes`, of the classes of a whole text.

    A classifier has the same parameters by the same names, but for its head, so that what one has learned can be
    loaded into the other.
    """

    vocab_size: int
    num_classes: int | None = None
    context: int | None = None  # tokens that it can look at together; None: any number

    @abstractmethod
    def forward(self, tokens: Tensor, lengths: Tensor | None = None, memory: Any = None) -> tuple[Tensor, Any] | Tensor:
        """tokens (B, T) -> logits (B, T, V) and memory; a classifier: scores (B, C).

        lengths (B,): true lengths of right-padded sequences, at least 1; padding changes nothing before it, and
        logits there mean nothing. memory: what an earlier call returned for the tokens before these.
        """

    @abstractmethod
    def start_memory(self) -> Any:
        """The memory of no tokens, to be given to a first call whose memory is wanted."""

    @torch.no_grad()
    def next_token_probabilities(self, tokens: Tensor, lengths: Tensor | None = None, memory: Any = None) -> Tensor:
        """The distribution of the token that follows each sequence's true end: (B, T) -> (B, V)."""
        logits, _ = self(tokens, lengths, memory)
        if lengths is None:
            return logits[:, -1].float().softmax(-1)
        last = (lengths.to(logits.device) - 1).view(-1, 1, 1).expand(-1, 1, logits.shape[-1])
        return logits.gather(1, last).squeeze(1).float().softmax(-1)
