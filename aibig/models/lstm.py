"""An LSTM language model, or text classifier. Knows no text: its inputs are token ids.

B batch, T time, V vocabulary, H width of the LSTM's outputs, M masked positions.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from aibig.config.settings import Fraction, PositiveInt
from aibig.errors import UserError
from aibig.generation.language_model import LanguageModel
from aibig.layers.dropout import EmbeddingDropout, LockedDropout
from aibig.layers.lstm import LSTM, LSTMState
from aibig.layers.pooling import pool
from aibig.layers.token_losses import TokenLossTerms, token_loss_terms

TIED_RANGE = 0.1  # AWD-LSTM, section 5 (arXiv 1708.02182)


class Lstm(LanguageModel):
    """Embedding(V, 50) - LSTM(50, 128, 2 layers) - Linear(128, V) by default; with its other settings an AWD-LSTM.

    AWD-LSTM is arXiv 1708.02182.

    Args:
        vocab_size: number of token ids.
        embedding: width of the embedding, as that of word vectors to be loaded.
        hidden: width of the hidden state.
        layers: number of LSTM layers.
        projection: width that each layer's outputs are projected to (slower on a CPU, where oneDNN has no such layer);
            null: they are as wide as hidden.
        tied: whether the head shares the embedding's matrix, which must be as wide as the LSTM's outputs; a
            classifier's does not.
        dropout: fraction dropped before, between and after the LSTM's layers.
        locked_dropout: dropout drops the same channels at all times of a sequence (AWD-LSTM, section 4.2).
        weight_drop: fraction of hidden-to-hidden weights dropped (AWD-LSTM, section 2).
        word_dropout: fraction of single tokens of the text dropped.
        embedding_dropout: fraction of the vocabulary dropped, wherever it stands in the batch (AWD-LSTM, section 4.3).
        num_classes: classes of a text classifier, with a linear head on the pooled outputs; null: a language model.
        pooling: what a classifier pools of the outputs of all tokens: the last one, their mean or their maximum.
        bidirectional: whether the LSTM runs in both directions, for a classifier or for masked language modelling.

    Raises:
        UserError: the widths don't fit.
    """

    def __init__(
        self,
        *,
        vocab_size: PositiveInt,
        embedding: PositiveInt = 50,
        hidden: PositiveInt = 128,
        layers: PositiveInt = 2,
        projection: PositiveInt | None = None,
        tied: bool = False,
        dropout: Fraction = 0.0,
        locked_dropout: bool = False,
        weight_drop: Fraction = 0.0,
        word_dropout: Fraction = 0.0,
        embedding_dropout: Fraction = 0.0,
        num_classes: PositiveInt | None = None,
        pooling: Literal["last", "mean", "max"] = "last",
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        if projection is not None and projection >= hidden:
            raise UserError(
                f"projection {projection} must be narrower than hidden ({hidden}); lower it or leave it out"
            )
        width = (projection or hidden) * (1 + bidirectional)
        if tied and num_classes is None and embedding != width:
            raise UserError(
                f"tied: the embedding ({embedding}) must be as wide as the LSTM's outputs ({width}); "
                f"set embedding to {width}, or another hidden or projection"
            )
        self.vocab_size, self.num_classes, self.pooling = vocab_size, num_classes, pooling
        self.is_bidirectional = bidirectional
        self.embedding = nn.Embedding(vocab_size, embedding)
        self.lstm = LSTM(
            embedding,
            hidden,
            layers,
            dropout=dropout if layers > 1 else 0.0,
            bidirectional=bidirectional,
            proj_size=projection or 0,
            weight_drop=weight_drop,
            locked=locked_dropout,
        )
        self.dropout = LockedDropout(dropout) if locked_dropout else nn.Dropout(dropout)
        self.word_dropout = nn.Dropout1d(word_dropout)
        self.embedding_dropout = EmbeddingDropout(embedding_dropout)
        self.head = nn.Linear(width, num_classes or vocab_size)
        if tied and num_classes is None:
            nn.init.uniform_(self.embedding.weight, -TIED_RANGE, TIED_RANGE)
            self.head.weight = self.embedding.weight

    def forward(
        self,
        tokens: Tensor,
        lengths: Tensor | None = None,
        state: LSTMState | None = None,
        targets: Tensor | None = None,
        document_ids: Tensor | None = None,
        masked_positions: Tensor | None = None,
    ) -> tuple[Tensor | TokenLossTerms, LSTMState] | Tensor:
        """Logits (B, T, V), or with targets (B, T) TokenLossTerms; and the state after these tokens, a new one.

        A classifier: scores (B, num_classes). See `LanguageModel.forward`. The states of TokenLossTerms are the LSTM's
        outputs without and with dropout, (B, T, H) each.

        Args:
            masked_positions: b T + t of each target, (M,): targets and TokenLossTerms are then (M,).

        Raises:
            UserError: document_ids, whose boundaries an LSTM can't see.
        """
        if document_ids is not None:
            raise UserError("an lstm can't tell documents apart; set data.documents: concatenated")
        embedded = self.embedding_dropout(self.embedding(tokens), tokens, self.vocab_size)
        outputs, state = self.lstm(self.dropout(self.word_dropout(embedded)), state, lengths)
        if self.num_classes is not None:
            pooled = self._pool(outputs, lengths).unsqueeze(1)  # (B, 1, H)
            return self.head(self.dropout(pooled).squeeze(1))
        dropped = self.dropout(outputs)
        if masked_positions is not None:
            outputs, dropped = (states.flatten(0, 1)[masked_positions] for states in (outputs, dropped))  # (M, H) each
        if targets is None:
            return self.head(dropped), state
        scores = token_loss_terms(dropped, self.head.weight, self.head.bias, targets)
        return scores._replace(states=(outputs, dropped)), state

    def _pool(self, outputs: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T, H), both directions concatenated -> (B, H)."""
        if self.pooling == "last" and self.lstm.bidirectional:  # the backward direction ends at the first token
            forward, backward = outputs.chunk(2, 2)
            return torch.cat([pool(forward, lengths, "last"), backward[:, 0]], 1)
        return pool(outputs, lengths, self.pooling)

    def init_state(self, batch_size: int = 1, max_tokens: int | None = None) -> LSTMState:
        """Hidden and cell states of zeros.

        Raises:
            UserError: the LSTM is bidirectional, so that it can't continue a text.
        """
        if self.is_bidirectional:
            raise UserError("a bidirectional lstm can't generate; leave out bidirectional")
        return self.lstm.init_state(batch_size)

    def select_state(self, state: LSTMState, rows: Tensor) -> LSTMState:
        """The hidden and cell states of these rows alone."""
        hidden, cell = state
        return hidden.index_select(1, rows), cell.index_select(1, rows)
