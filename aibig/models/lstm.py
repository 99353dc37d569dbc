"""A recurrent language model. Knows no text: tokens are numbers.

B batch, T time, V vocabulary, H hidden, L layers.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from aibig.layers.language_model import LanguageModel
from aibig.settings import Fraction, PositiveInt

Memory = tuple[Tensor, Tensor]  # hidden and cell states, (L, B, H) each


class Lstm(LanguageModel):
    """Embedding(V, 50) - LSTM(50, 128, 2 layers) - Linear(128, V) by default.

    vocab_size: V. embedding: width of a token's vector, as that of word vectors to be loaded. hidden: H, width of
    the LSTM. layers: L. dropout: between layers, and before and after the LSTM.
    """

    def __init__(
        self,
        *,
        vocab_size: PositiveInt,
        embedding: PositiveInt = 50,
        hidden: PositiveInt = 128,
        layers: PositiveInt = 2,
        dropout: Fraction = 0.0,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.embedding = nn.Embedding(vocab_size, embedding)
        self.lstm = nn.LSTM(embedding, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, vocab_size)

    def forward(
        self, tokens: Tensor, lengths: Tensor | None = None, memory: Memory | None = None
    ) -> tuple[Tensor, Memory]:
        """tokens (B, T) -> logits (B, T, V), memory after each sequence's true end.

        With lengths (B,) the sequences are packed, so that padding is never read. Raises RuntimeError for a
        length of 0 or one beyond T.
        """
        embedded = self.dropout(self.embedding(tokens))
        if lengths is None:
            outputs, memory = self.lstm(embedded, memory)
        else:
            packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
            outputs, memory = self.lstm(packed, memory)
            outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=tokens.shape[1])
        return self.head(self.dropout(outputs)), memory

    def start_memory(self) -> None:
        """None: the LSTM starts from zeros by itself."""
        return None
