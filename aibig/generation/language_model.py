"""What every language model is: tokens in, scores of the next token out, with lengths and memory.

B batch, T time, V vocabulary, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from aibig.errors import UserError
from aibig.generation.decoding import Generation
from aibig.generation.speculative import Speculation
from aibig.layers.token_losses import TokenScores


class LanguageModel(nn.Module, ABC):
    """Scores of the next token after each token; or, with `num_classes`, of the classes of a whole text.

    A classifier has the same parameters by the same names, but for its head, so that what one has learned can be
    loaded into the other.
    """

    can_truncate: ClassVar[bool] = False  # whether `truncate_state` can forget the latest tokens

    vocab_size: int
    num_classes: int | None = None
    looks_ahead: bool = False  # whether a state knows the tokens after it, so that it can fill blanks but not foretell
    context: int | None = None  # tokens that it can look at together; None: any number

    @abstractmethod
    def forward(
        self,
        tokens: Tensor,
        lengths: Tensor | None = None,
        state: Any = None,
        targets: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> tuple[Tensor | TokenScores, Any] | Tensor:
        """tokens (B, T) -> logits (B, T, V) and memory; a classifier: scores (B, C).

        lengths (B,): true lengths of right-padded sequences, at least 1; padding changes nothing before it, and
        logits there mean nothing. memory: what an earlier call returned for the tokens before these; each row's
        moves on by its true length. targets (B, T): instead of logits give what their losses are made of, so that
        the logits need not stand in memory. documents (B, T): the number of the document that each token is of;
        tokens see no other.
        """

    @abstractmethod
    def init_state(self, batch_size: int = 1, max_tokens: int | None = None) -> Any:
        """The memory of no tokens, for a first call whose memory is wanted. max_tokens: how many it must hold."""

    def select_state(self, state: Any, rows: Tensor) -> Any:
        """The memory of these rows alone."""
        raise NotImplementedError(f"{type(self).__name__} can't take rows out of its memory")

    def truncate_state(self, state: Any, lengths: Tensor) -> Any:
        """The memory as it was after the first `lengths` (B,) tokens of each row. Raises UserError if it can't."""
        raise UserError(f"a {type(self).__name__} can't forget its latest tokens; take a Transformer")

    def stream(
        self, tokens: Tensor, lengths: Tensor | None = None, *, draft: LanguageModel | None = None, **settings: Any
    ) -> Generation:
        """What follows the rows of tokens (B, T), each of its true length, as it is made: lists of tokens for each.

        draft: a smaller model of the same vocabulary that proposes tokens, see `Speculation`; it changes nothing but
        the time. Other settings are those of `Generation` and `Sampling`.
        """
        if draft is None:
            return Generation(self, tokens, lengths, **settings)
        return Speculation(self, tokens, lengths, draft=draft, **settings)

    def generate(self, tokens: Tensor, lengths: Tensor | None = None, **settings: Any) -> list[list[int]]:
        """What follows each row, when all is made; settings as of `stream`."""
        made: list[list[int]] = [[] for _ in range(len(tokens))]
        for added in self.stream(tokens, lengths, **settings):
            for row, new in zip(made, added, strict=True):
                row += new
        return made

    @torch.no_grad()
    def next_token_probabilities(self, tokens: Tensor, lengths: Tensor | None = None, state: Any = None) -> Tensor:
        """The distribution of the token that follows each sequence's true end: (B, T) -> (B, V)."""
        logits, _ = self(tokens, lengths, state)
        if lengths is None:
            return logits[:, -1].float().softmax(-1)
        last = (lengths.to(logits.device) - 1).view(-1, 1, 1).expand(-1, 1, logits.shape[-1])
        return logits.gather(1, last).squeeze(1).float().softmax(-1)
