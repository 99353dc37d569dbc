"""The contract of a language model: its forward, and the state of the tokens that it has read. Knows no decoding.

B batch, T time, V vocabulary, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from aibig.errors import UserError
from aibig.layers.token_losses import TokenLossTerms


class BaseLanguageModel(nn.Module, ABC):
    """Logits of the next token after each token; or, with `num_classes`, of the classes of a whole text.

    A classifier has the same parameters by the same names, except for its head, so that weights of either load into
    the other.
    """

    can_truncate: ClassVar[bool] = False  # whether `truncate_state` is supported

    vocab_size: int
    num_classes: int | None = None
    is_bidirectional: bool = False  # outputs depend on later tokens, too: for masked tokens, not for generation
    context: int | None = None  # tokens that it can attend to together; None: any number

    @abstractmethod
    def forward(
        self,
        tokens: Tensor,
        lengths: Tensor | None = None,
        state: Any = None,
        targets: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> tuple[Tensor | TokenLossTerms, Any] | Tensor:
        """Logits, and the state after these tokens.

        Args:
            tokens: token ids, (B, T).
            lengths: true lengths of right-padded rows, at least 1, (B,); None is T for all. Padding changes no logits
                before it. The logits at padding mean nothing.
            state: what an earlier call returned for the tokens before these, or `init_state`. Each row's state
                advances by the row's true length.
            targets: ids of the tokens to predict, (B, T). With them the result holds TokenLossTerms instead of logits,
                so that the logits of all tokens need not be in memory at once.
            document_ids: number of the document that each token belongs to, (B, T). A token attends to tokens of its
                own document only.

        Returns:
            (logits (B, T, V) or TokenLossTerms, state). A classifier returns its logits, (B, C), alone.
        """

    @abstractmethod
    def init_state(self, batch_size: int = 1, max_tokens: int | None = None) -> Any:
        """The state before the first token.

        Args:
            batch_size: B.
            max_tokens: number of tokens that the state must have room for.
        """

    def select_state(self, state: Any, rows: Tensor) -> Any:
        """The state of some rows alone.

        Args:
            state: as `forward` returns it.
            rows: indices of the rows, in their new order.
        """
        raise NotImplementedError(f"{type(self).__name__} can't select rows of its state")

    def truncate_state(self, state: Any, lengths: Tensor) -> Any:
        """The state as it was after the first tokens of each row; the given state may be changed.

        Args:
            state: as `forward` returns it.
            lengths: number of tokens that remain of each row, (B,).

        Raises:
            UserError: this model can't, see `can_truncate`.
        """
        raise UserError(f"a {type(self).__name__} can't truncate its state; take a Transformer")
