"""A recurrent language model, or classifier of texts. Knows no text: tokens are numbers.

B batch, T time, V vocabulary, H hidden, L layers, C classes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from aibig.errors import UserError
from aibig.layers.language_model import LanguageModel
from aibig.layers.pooling import pool
from aibig.layers.token_losses import TokenScores, token_scores
from aibig.settings import Fraction, PositiveInt

Memory = tuple[Tensor, Tensor]  # hidden and cell states, (L, B, H) each; twice as many if bidirectional


class Lstm(LanguageModel):
    """Embedding(V, 50) - LSTM(50, 128, 2 layers) - Linear(128, V) by default.

    vocab_size: V. embedding: width of a token's vector, as that of word vectors to be loaded. hidden: H, width of
    the LSTM. layers: L. dropout: between layers, and before and after the LSTM. word_dropout: of whole tokens.
    num_classes: C, for a classifier of texts: its head is Linear(H, C) on the states of all tokens pooled by
    `pooling` (see aibig.layers.pooling), and may be `bidirectional`, reading from both ends.

    Raises UserError for a bidirectional language model.
    """

    def __init__(
        self,
        *,
        vocab_size: PositiveInt,
        embedding: PositiveInt = 50,
        hidden: PositiveInt = 128,
        layers: PositiveInt = 2,
        dropout: Fraction = 0.0,
        word_dropout: Fraction = 0.0,
        num_classes: PositiveInt | None = None,
        pooling: Literal["last", "mean", "max"] = "last",
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        if bidirectional and num_classes is None:
            raise UserError("bidirectional: a language model may not look ahead; leave it out, or set num_classes")
        self.vocab_size, self.num_classes, self.pooling = vocab_size, num_classes, pooling
        self.embedding = nn.Embedding(vocab_size, embedding)
        self.lstm = nn.LSTM(
            embedding,
            hidden,
            layers,
            batch_first=True,
            dropout=dropout if layers > 1 else 0.0,
            bidirectional=bidirectional,
        )
        self.dropout = nn.Dropout(dropout)
        self.word_dropout = nn.Dropout1d(word_dropout)
        self.head = nn.Linear(hidden * (1 + bidirectional), num_classes or vocab_size)

    def forward(
        self,
        tokens: Tensor,
        lengths: Tensor | None = None,
        memory: Memory | None = None,
        targets: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> tuple[Tensor | TokenScores, Memory] | Tensor:
        """tokens (B, T) -> logits (B, T, V), memory after each sequence's true end; a classifier: scores (B, C).

        With lengths (B,) the sequences are packed, so that padding is never read. Raises RuntimeError for a
        length of 0 or one beyond T.
        """
        embedded = self.dropout(self.word_dropout(self.embedding(tokens)))
        if lengths is None:
            outputs, memory = self.lstm(embedded, memory)
        else:
            packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
            outputs, memory = self.lstm(packed, memory)
            outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=tokens.shape[1])
        if self.num_classes is not None:
            return self.head(self.dropout(self._pooled(outputs, lengths)))
        outputs = self.dropout(outputs)
        if targets is not None:
            return token_scores(outputs, self.head.weight, self.head.bias, targets), memory
        return self.head(outputs), memory

    def _pooled(self, outputs: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T, H), both directions side by side -> (B, H)."""
        if self.pooling == "last" and self.lstm.bidirectional:  # what reads backwards ends at the first token
            ahead, back = outputs.chunk(2, 2)
            return torch.cat([pool(ahead, lengths, "last"), back[:, 0]], 1)
        return pool(outputs, lengths, self.pooling)

    def start_memory(self, batch_size: int = 1, max_tokens: int | None = None) -> None:
        """None: the LSTM starts from zeros by itself."""
        return None
