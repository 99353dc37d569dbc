"""Dropout of more than single numbers. Knows no model.

B batch, T time, C channels, V vocabulary.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class LockedDropout(nn.Dropout):
    """Drops the same channels of a sequence at all its times (arXiv 1512.05287; AWD-LSTM, section 4.2)."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return locked_dropout(inputs, self.p, self.training)


def locked_dropout(inputs: Tensor, p: float, training: bool) -> Tensor:
    """`LockedDropout` as a function."""
    return F.dropout1d(inputs.transpose(1, 2), p, training).transpose(1, 2)


class EmbeddingDropout(nn.Dropout):
    """Drops tokens of the vocabulary, wherever they stand in the batch (AWD-LSTM, arXiv 1708.02182, section 4.3)."""

    def forward(self, embedded: Tensor, tokens: Tensor, vocab_size: int) -> Tensor:  # type: ignore[override]
        """embedded (B, T, C) of tokens (B, T), which are below `vocab_size` -> (B, T, C)."""
        if not self.training or self.p == 0.0:
            return embedded
        kept = F.dropout(embedded.new_ones(vocab_size), self.p)  # (V,)
        return embedded * kept[tokens].unsqueeze(-1)
