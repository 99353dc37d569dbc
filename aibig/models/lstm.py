"""A recurrent language model, or classifier of texts. Knows no text: tokens are numbers.

B batch, T time, V vocabulary, H hidden, L layers, C classes.
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
from aibig.layers.token_losses import TokenScores, token_scores

TIED_RANGE = 0.1  # AWD-LSTM, section 5 (arXiv 1708.02182)


class Lstm(LanguageModel):
    """Embedding(V, 50) - LSTM(50, 128, 2 layers) - Linear(128, V) by default; with all that follows, an AWD-LSTM.

    vocab_size: V. embedding: width of a token's vector, as that of word vectors to be loaded. hidden: H, width of
    the LSTM. layers: L. projection: width that each layer's outputs are projected to (slower on a CPU, where oneDNN
    has no such layer). tied: the head's matrix is the embedding's, which must be as wide as the outputs; a classifier
    has a head of its own.
    dropout: between layers, and before and after the LSTM. locked_dropout: it drops the same channels at all times.
    weight_drop: of weights from hidden to hidden. word_dropout: of single tokens of the text. embedding_dropout: of
    tokens of the vocabulary, wherever they stand in the batch.
    num_classes: C, for a classifier of texts: its head is Linear(H, C) on the states of all tokens pooled by
    `pooling` (see aibig.layers.pooling). bidirectional: it reads from both ends, as a classifier or to fill blanks.

    Raises UserError for widths that don't fit.
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
        self.looks_ahead = bidirectional
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
        documents: Tensor | None = None,
        places: Tensor | None = None,
    ) -> tuple[Tensor | TokenScores, LSTMState] | Tensor:
        """tokens (B, T) -> logits (B, T, V), or with targets (B, T) TokenScores; and the memory, a new one.

        A classifier: scores (B, C). See `LanguageModel.forward`. The states of TokenScores are the LSTM's outputs
        without and with dropout, (B, T, H) each. targets (M,) and places (M,): TokenScores (M,) of the targets at
        these places, b T + t, alone.

        Raises UserError for documents, whose borders it can't see.
        """
        if documents is not None:
            raise UserError("lstm reads a stream, in which documents have no borders; set data.documents: joined")
        embedded = self.embedding_dropout(self.embedding(tokens), tokens, self.vocab_size)
        outputs, state = self.lstm(self.dropout(self.word_dropout(embedded)), state, lengths)
        if self.num_classes is not None:
            pooled = self._pooled(outputs, lengths).unsqueeze(1)  # (B, 1, H)
            return self.head(self.dropout(pooled).squeeze(1))
        dropped = self.dropout(outputs)
        if places is not None:
            outputs, dropped = (one.flatten(0, 1)[places] for one in (outputs, dropped))  # (M, H) each
        if targets is None:
            return self.head(dropped), state
        scores = token_scores(dropped, self.head.weight, self.head.bias, targets)
        return scores._replace(states=(outputs, dropped)), state

    def _pooled(self, outputs: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T, H), both directions side by side -> (B, H)."""
        if self.pooling == "last" and self.lstm.bidirectional:  # what reads backwards ends at the first token
            ahead, back = outputs.chunk(2, 2)
            return torch.cat([pool(ahead, lengths, "last"), back[:, 0]], 1)
        return pool(outputs, lengths, self.pooling)

    def init_state(self, batch_size: int = 1, max_tokens: int | None = None) -> LSTMState:
        """Zeros. Raises UserError if it reads from both ends: then nothing can follow."""
        if self.looks_ahead:
            raise UserError("an lstm that is bidirectional can't read on; leave that out to generate")
        return self.lstm.init_state(batch_size)

    def select_state(self, state: LSTMState, rows: Tensor) -> LSTMState:
        """The hidden and cell states of these rows alone."""
        hidden, cell = (one.index_select(1, rows) for one in state)
        return hidden, cell
