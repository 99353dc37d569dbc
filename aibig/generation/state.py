"""A language model that reads on in a batch of texts as they grow. Knows no sampling.

B batch, T time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from aibig.generation.language_model import LanguageModel


class Reader:
    """A model and its memory, which holds a stretch of each text: `lengths` tokens from its `begins` on.

    Where a text no longer fits into the model's context, its latest half context is read again, and reading goes on
    from there. Each text is treated as if it were alone.
    """

    def __init__(self, model: LanguageModel, batch_size: int, max_tokens: int) -> None:
        self.model, self.limit = model, model.context
        self._capacity = max_tokens if self.limit is None else min(max_tokens, self.limit)
        self._device = next(model.parameters()).device
        self._begin([0] * batch_size)

    def _begin(self, begins: list[int]) -> None:
        self.begins, self.lengths = begins, [0] * len(begins)
        self.state: Any = self.model.init_state(len(begins), self._capacity)

    def catch_up(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Read what was added to each text, at least a token: logits (B, V) of what follows."""
        self.make_room(texts)
        tokens, lengths = padded(self._unread(texts), self._device)
        logits = self.read(tokens, lengths)
        if lengths is None:
            return logits[:, -1]
        return logits[torch.arange(len(texts), device=self._device), lengths - 1]

    def check(self, texts: Sequence[Sequence[int]], proposed: Tensor) -> Tensor:
        """Read the rest of each text, then `proposed` (B, T): logits (B, 1 + T, V) of what follows text and tokens."""
        unread = torch.tensor(self._unread(texts), device=self._device)  # even: each lacks its newest, or all is unread
        return self.read(torch.cat([unread, proposed], 1))[:, unread.shape[1] - 1 :]

    def read(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Read tokens (B, T), of each row its true length: logits (B, T, V)."""
        logits, self.state = self.model(tokens, lengths, self.state)
        more = [tokens.shape[1]] * len(tokens) if lengths is None else lengths.tolist()
        self.lengths = [before + new for before, new in zip(self.lengths, more, strict=True)]
        return logits

    def room(self, texts: Sequence[Sequence[int]]) -> int | None:
        """How many tokens can follow all of the texts before one must be read again; None: any number."""
        if self.limit is None:
            return None
        return self.limit - max(len(text) - begin for text, begin in zip(texts, self.begins, strict=True))

    def make_room(self, texts: Sequence[Sequence[int]], more: int = 0) -> None:
        """Forget the beginning of texts that with `more` tokens no longer fit into the context."""
        if self.limit is None:
            return
        spans = [len(text) - begin for text, begin in zip(texts, self.begins, strict=True)]
        full = [row for row, span in enumerate(spans) if span + more > self.limit]
        if not full:
            return
        begins = list(self.begins)
        for row in full:
            begins[row] = len(texts[row]) - latest(self.limit)
        if not any(self.lengths):
            self.begins = begins
        elif len(full) == len(texts):
            self._begin(begins)
        else:
            self._read_again(texts, full, begins)

    def _read_again(self, texts: Sequence[Sequence[int]], full: list[int], begins: list[int]) -> None:
        """Read these texts anew from where they begin now, but for their newest token, which all texts have unread."""
        anew = Reader(self.model, len(full), self._capacity)
        stretches = [texts[row][begins[row] : -1] for row in full]
        if stretches[0]:
            anew.read(torch.tensor(stretches, device=self._device))
        self.state.replace(torch.tensor(full, device=self._device), anew.state)
        self.begins = begins
        for row in full:
            self.lengths[row] = len(stretches[0])

    def forget(self, lengths: list[int]) -> None:
        """Know only the first tokens of what was read, as many of each text."""
        if lengths != self.lengths:
            self.state = self.model.truncate_state(self.state, torch.tensor(lengths))
            self.lengths = lengths

    def keep(self, rows: list[int]) -> None:
        """Go on with these texts alone."""
        self.state = self.model.select_state(self.state, torch.tensor(rows, device=self._device))
        self.begins, self.lengths = [self.begins[row] for row in rows], [self.lengths[row] for row in rows]

    def _unread(self, texts: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        return [text[begin + length :] for text, begin, length in zip(texts, self.begins, self.lengths, strict=True)]


def latest(context: int) -> int:
    """How many of its latest tokens are read of a text that does not fit into the context."""
    return max(1, context // 2)


def padded(texts: Sequence[Sequence[int]], device: torch.device | None = None) -> tuple[Tensor, Tensor | None]:
    """Texts side by side, padded on the right: tokens (B, T) and their lengths (B,), None if all are as long."""
    lengths = [len(text) for text in texts]
    longest = max(lengths)
    tokens = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts], device=device)
    even = all(one == other for one, other in pairwise(lengths))
    return tokens, None if even else torch.tensor(lengths, device=device)
