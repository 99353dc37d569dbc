"""Sentences as token ids: encoded, truncated, padded; for training and inference alike. Knows no labels and no model.

S sentences, B of them in a batch, T tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aibig.data.text.tokenizer import Tokenizer, tokenizer_from_dict

PADDING = 0  # any id would do: models go by the lengths, and padding changes nothing


@dataclass
class Sentences:
    """Sentences of any length, one after the other.

    Args:
        tokens: ids of all sentences, (tokens,).
        starts: index of each sentence's first token, (S,).
        lengths: tokens of each sentence, at least 1, (S,).
    """

    tokens: Tensor
    starts: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def to(self, device: torch.device) -> Sentences:
        """The same on another device.

        Args:
            device: where the tensors go.
        """
        return Sentences(self.tokens.to(device), self.starts.to(device), self.lengths.to(device))

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Some of the sentences, padded on the right.

        Args:
            index: of the sentences, (B,).

        Returns:
            Token ids, (B, T), and lengths, (B,).
        """
        index = index.to(self.lengths.device, non_blocking=True)
        lengths = self.lengths[index]
        steps = torch.arange(int(lengths.max()), device=lengths.device)
        positions = self.starts[index].unsqueeze(1) + steps
        tokens = self.tokens[positions.clamp(max=len(self.tokens) - 1)]
        return tokens.masked_fill(steps >= lengths.unsqueeze(1), PADDING), lengths


@dataclass
class TextPreprocessor:
    """Text to token ids, as a classifier was trained.

    Args:
        tokenizer: of the training text.
        max_tokens: longer texts are truncated.
        lower_case: convert to lower case first.
    """

    tokenizer: Tokenizer
    max_tokens: int
    lower_case: bool = False

    def encode(self, texts: Iterable[str]) -> tuple[Sentences, int]:
        """Encode texts; one without tokens becomes token 0.

        Args:
            texts: to encode.

        Returns:
            The sentences, and how many of them were truncated.
        """
        cased = (text.lower() if self.lower_case else text for text in texts)
        encoded = [self.tokenizer.encode_with_special_tokens(text) for text in cased]
        empty = np.zeros(1, dtype=np.int64)
        truncated = [tokens[: self.max_tokens] if len(tokens) else empty for tokens in encoded]
        lengths = torch.tensor([len(tokens) for tokens in truncated])
        sentences = Sentences(torch.from_numpy(np.concatenate(truncated)), lengths.cumsum(0) - lengths, lengths)
        return sentences, sum(len(tokens) > self.max_tokens for tokens in encoded)

    def to_dict(self) -> dict[str, Any]:
        """Plain values from which `from_dict` makes the same preprocessor."""
        return {"tokenizer": self.tokenizer.to_dict(), "max_tokens": self.max_tokens, "lower_case": self.lower_case}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TextPreprocessor:
        """The preprocessor that was saved as plain values.

        Args:
            values: from `to_dict`.
        """
        return cls(tokenizer_from_dict(values["tokenizer"]), values["max_tokens"], values["lower_case"])
