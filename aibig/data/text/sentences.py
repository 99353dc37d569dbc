"""Sentences as token numbers: encoded, cut, padded; for training and prediction alike. Knows no labels and no model.

S sentences, B of them a batch, T tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aibig.data.text.tokenizer import Tokenizer, tokenizer_from_dict

PADDING = 0  # some token's number; whoever reads a batch goes by the lengths, and never sees it


@dataclass
class Sentences:
    """Sentences of any length, one after the other: tokens (all of them), starts (S,) and lengths (S,), at least 1."""

    tokens: Tensor
    starts: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def to(self, device: torch.device) -> Sentences:
        """The same on `device`."""
        return Sentences(self.tokens.to(device), self.starts.to(device), self.lengths.to(device))

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The sentences with the numbers `index` (B,): tokens (B, T), padded on the right, and lengths (B,)."""
        index = index.to(self.lengths.device, non_blocking=True)
        lengths = self.lengths[index]
        steps = torch.arange(int(lengths.max()), device=lengths.device)
        places = self.starts[index].unsqueeze(1) + steps
        tokens = self.tokens[places.clamp(max=len(self.tokens) - 1)]
        return tokens.masked_fill(steps >= lengths.unsqueeze(1), PADDING), lengths


@dataclass
class Encoder:
    """Text to tokens, as a run does it: in lower case, if it says so, and of at most `max_tokens` tokens."""

    tokenizer: Tokenizer
    max_tokens: int
    lower_case: bool = False

    def encode(self, texts: Iterable[str]) -> tuple[Sentences, int]:
        """The sentences, and how many were too long and have been cut. A text without tokens becomes token 0."""
        nothing = np.zeros(1, dtype=np.int64)
        encoded = [self.tokenizer.encode_whole(text.lower() if self.lower_case else text) for text in texts]
        kept = [one[: self.max_tokens] if len(one) else nothing for one in encoded]
        lengths = torch.tensor([len(one) for one in kept])
        tokens = torch.from_numpy(np.concatenate(kept))
        return Sentences(tokens, lengths.cumsum(0) - lengths, lengths), sum(
            len(one) > self.max_tokens for one in encoded
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values that `from_dict` makes the same encoder of."""
        return {"tokenizer": self.tokenizer.to_dict(), "max_tokens": self.max_tokens, "lower_case": self.lower_case}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Encoder:
        """The encoder that `to_dict` described."""
        return cls(tokenizer_from_dict(values["tokenizer"]), values["max_tokens"], values["lower_case"])
