"""Dropout of channels over a whole sequence, and of tokens of the vocabulary. Knows no model.

B batch, T time, C channels, V vocabulary.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class LockedDropout(nn.Dropout):
    """Drops the same channels of a sequence at all time steps (arXiv 1512.05287; AWD-LSTM, section 4.2)."""

    def forward(self, inputs: Tensor) -> Tensor:
        """The inputs with dropped channels, (B, T, C).

        Args:
            inputs: (B, T, C).
        """
        return locked_dropout(inputs, self.p, self.training)


def locked_dropout(inputs: Tensor, p: float, training: bool) -> Tensor:
    """`LockedDropout` as a function.

    Args:
        inputs: (B, T, C).
        p: probability that a channel is dropped.
        training: whether anything is dropped.
    """
    return F.dropout1d(inputs.transpose(1, 2), p, training).transpose(1, 2)


class EmbeddingDropout(nn.Dropout):
    """Drops tokens of the vocabulary, at all their positions in the batch (AWD-LSTM, arXiv 1708.02182, section 4.3)."""

    def forward(self, embedded: Tensor, tokens: Tensor, vocab_size: int) -> Tensor:  # type: ignore[override]
        """The embeddings with dropped tokens, (B, T, C).

        Args:
            embedded: embeddings of the tokens, (B, T, C).
            tokens: token ids, (B, T).
            vocab_size: V.
        """
        if not self.training or self.p == 0.0:
            return embedded
        scale = F.dropout(embedded.new_ones(vocab_size), self.p)  # (V,)
        return embedded * scale[tokens].unsqueeze(-1)
