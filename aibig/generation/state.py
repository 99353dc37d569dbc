"""A language model and its state, for a batch of sequences that grow. Knows no sampling.

B batch, T time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from aibig.generation.base import BaseLanguageModel


class DecodingState:
    """A model's state over a batch of growing sequences: `lengths` cached tokens from position `starts` on.

    Where a sequence no longer fits into the model's context, the state is recomputed from its latest context / 2
    tokens. Results do not depend on the other rows of the batch.

    Args:
        model: in evaluation mode.
        batch_size: B, number of sequences.
        max_tokens: number of tokens that a sequence has at most.
    """

    def __init__(self, model: BaseLanguageModel, batch_size: int, max_tokens: int) -> None:
        self.model, self.context = model, model.context
        self._capacity = max_tokens if self.context is None else min(max_tokens, self.context)
        self._device = next(model.parameters()).device
        self._reset([0] * batch_size)

    def _reset(self, starts: list[int]) -> None:
        self.starts, self.lengths = starts, [0] * len(starts)
        self.state: Any = self.model.init_state(len(starts), self._capacity)

    def prefill(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """Process the tokens that are not cached yet: the prompts at first, later the newest. Returns logits, (B, V).

        Args:
            sequences: token ids of each row, at least one of them not cached yet.
        """
        self.shift_context(sequences)
        tokens, lengths = pad_tokens(self._unread(sequences), self._device)
        logits = self.forward(tokens, lengths)
        if lengths is None:
            return logits[:, -1]
        return logits[torch.arange(len(sequences), device=self._device), lengths - 1]

    def score_proposals(self, sequences: Sequence[Sequence[int]], proposed: Tensor) -> Tensor:
        """Process uncached and proposed tokens. Returns the logits before, between and after the latter, (B, 1 + T, V).

        Args:
            sequences: token ids of each row.
            proposed: token ids that may follow, (B, T).
        """
        # of equal lengths: of each row only the newest token is not cached, or none is
        unread = torch.tensor(self._unread(sequences), device=self._device)
        return self.forward(torch.cat([unread, proposed], 1))[:, unread.shape[1] - 1 :]

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Read tokens: logits, (B, T, V).

        Args:
            tokens: token ids, right-padded, (B, T).
            lengths: true lengths, (B,); None is T for all.
        """
        logits, self.state = self.model(tokens, lengths, self.state)
        added = [tokens.shape[1]] * len(tokens) if lengths is None else lengths.tolist()
        self.lengths = [before + new for before, new in zip(self.lengths, added, strict=True)]
        return logits

    def free_context(self, sequences: Sequence[Sequence[int]]) -> int | None:
        """How many tokens can follow all sequences before the context of one must shift; None: any number.

        Args:
            sequences: token ids of each row.
        """
        return None if self.context is None else self.context - max(self._spans(sequences))

    def shift_context(self, sequences: Sequence[Sequence[int]], extra: int = 0) -> None:
        """Forget the beginning of sequences that no longer fit into the context.

        Args:
            sequences: token ids of each row.
            extra: number of tokens that must fit in besides.
        """
        if self.context is None:
            return
        full = [row for row, span in enumerate(self._spans(sequences)) if span + extra > self.context]
        if not full:
            return
        starts = list(self.starts)
        for row in full:
            starts[row] = len(sequences[row]) - length_after_shift(self.context)
        if not any(self.lengths):
            self.starts = starts
        elif len(full) == len(sequences):
            self._reset(starts)
        else:
            self._read_again(sequences, full, starts)

    def _read_again(self, sequences: Sequence[Sequence[int]], full: list[int], starts: list[int]) -> None:
        """Read these rows from their new starts, except for the newest token, which is unread in all rows."""
        fresh = DecodingState(self.model, len(full), self._capacity)
        windows = [sequences[row][starts[row] : -1] for row in full]
        if windows[0]:
            fresh.forward(torch.tensor(windows, device=self._device))
        self.state.replace(torch.tensor(full, device=self._device), fresh.state)
        self.starts = starts
        for row in full:
            self.lengths[row] = len(windows[0])

    def truncate(self, lengths: list[int]) -> None:
        """Forget what was read beyond the first tokens of each row.

        Args:
            lengths: number of tokens that remain of each row.
        """
        if lengths != self.lengths:
            self.state = self.model.truncate_state(self.state, torch.tensor(lengths))
            self.lengths = lengths

    def select(self, rows: list[int]) -> None:
        """Go on with some rows alone.

        Args:
            rows: indices of the rows.
        """
        self.state = self.model.select_state(self.state, torch.tensor(rows, device=self._device))
        self.starts, self.lengths = [self.starts[row] for row in rows], [self.lengths[row] for row in rows]

    def _spans(self, sequences: Sequence[Sequence[int]]) -> list[int]:
        """How much of the context each sequence needs."""
        return [len(sequence) - start for sequence, start in zip(sequences, self.starts, strict=True)]

    def _unread(self, sequences: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        rows = zip(sequences, self.starts, self.lengths, strict=True)
        return [sequence[start + length :] for sequence, start, length in rows]


def length_after_shift(context: int) -> int:
    """How many of its latest tokens are read again of a sequence that does not fit into the context.

    Args:
        context: number of tokens that the model can attend to together.
    """
    return max(1, context // 2)


def pad_tokens(sequences: Sequence[Sequence[int]], device: torch.device | None = None) -> tuple[Tensor, Tensor | None]:
    """Right-padded token ids, (B, T), and true lengths, (B,), None if these are all equal.

    Args:
        sequences: token ids of each row.
        device: of the tensors; None is the CPU.
    """
    lengths = [len(sequence) for sequence in sequences]
    longest = max(lengths)
    tokens = torch.tensor([[*sequence, *[0] * (longest - len(sequence))] for sequence in sequences], device=device)
    return tokens, None if len({*lengths}) == 1 else torch.tensor(lengths, device=device)
