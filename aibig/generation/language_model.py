"""What every language model is: the contract of `BaseLanguageModel`, and generation on top of it.

B batch, T time, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aibig.generation.base import BaseLanguageModel
from aibig.generation.decoding import Decoding
from aibig.generation.speculative import SpeculativeDecoding


class LanguageModel(BaseLanguageModel):
    """A language model that generates. Subclasses implement `forward` and `init_state`."""

    def stream(
        self, tokens: Tensor, lengths: Tensor | None = None, *, draft: LanguageModel | None = None, **settings: Any
    ) -> Decoding:
        """The continuation of each prompt as it is generated: an iterator over steps, with lists of new tokens.

        Args:
            tokens: the prompts' token ids, right-padded, (B, T).
            lengths: the prompts' true lengths, (B,); None is T for all.
            draft: a smaller model of the same vocabulary that proposes tokens, see `SpeculativeDecoding`. It changes
                the time only.
            settings: those of `Decoding` and `Sampling`.
        """
        if draft is None:
            return Decoding(self, tokens, lengths, **settings)
        return SpeculativeDecoding(self, tokens, lengths, draft=draft, **settings)

    def generate(self, tokens: Tensor, lengths: Tensor | None = None, **settings: Any) -> list[list[int]]:
        """The continuation of each prompt: B lists of token ids.

        Args:
            tokens: the prompts' token ids, right-padded, (B, T).
            lengths: the prompts' true lengths, (B,); None is T for all.
            settings: those of `stream`.
        """
        continuations: list[list[int]] = [[] for _ in range(len(tokens))]
        for new_tokens in self.stream(tokens, lengths, **settings):
            for continuation, new in zip(continuations, new_tokens, strict=True):
                continuation += new
        return continuations

    @torch.no_grad()
    def next_token_probabilities(self, tokens: Tensor, lengths: Tensor | None = None, state: Any = None) -> Tensor:
        """The distribution of the token that follows each row, (B, V).

        Args:
            tokens: token ids, right-padded, (B, T).
            lengths: true lengths, (B,); None is T for all.
            state: of the tokens before these, see `forward`.
        """
        logits, _ = self(tokens, lengths, state)
        if lengths is None:
            return logits[:, -1].float().softmax(-1)
        last = (lengths.to(logits.device) - 1).view(-1, 1, 1).expand(-1, 1, logits.shape[-1])
        return logits.gather(1, last).squeeze(1).float().softmax(-1)
