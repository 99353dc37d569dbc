"""Decoding: what a language model generates, token by token. Knows no text: tokens are numbers.

B batch, T time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from aibig.config.settings import NonNegativeInt, checked
from aibig.errors import UserError
from aibig.generation.base import BaseLanguageModel
from aibig.generation.sampling import Sampling, uniform_numbers
from aibig.generation.state import DecodingState


class Decoding(Iterator[list[list[int]]]):
    """An iterator over steps: each gives the new tokens of every row, B lists, empty for rows that are finished.

    What happens beyond the model's context: see `DecodingState`.

    Args:
        model: a language model in evaluation mode.
        tokens: the prompts' token ids, right-padded, (B, T).
        lengths: the prompts' true lengths, (B,); None is T for all.
        max_tokens: number of tokens to generate for each row at most.
        stop_tokens: ids of tokens that finish a row.
        seed: of all rows, or a list with the seed of each. What is generated for a row depends on its own seed alone.
        sampling: settings of `Sampling`.

    Raises:
        UserError: the model is a classifier, a prompt is empty, a value is out of range, or logits are not finite.
    """

    _uniform_per_token = 1
    _lookahead = 0  # tokens beyond max_tokens that the model may have to read

    @checked
    def __init__(
        self,
        model: BaseLanguageModel,
        tokens: Tensor,
        lengths: Tensor | None = None,
        *,
        max_tokens: NonNegativeInt = 200,
        stop_tokens: Sequence[int] = (),
        seed: int | Sequence[int] = 0,
        **sampling: Any,
    ) -> None:
        if model.num_classes is not None:
            raise UserError("a text classifier can't generate; take a language model")
        true_lengths = [tokens.shape[1]] * len(tokens) if lengths is None else lengths.tolist()
        self._sequences = [row[:length] for row, length in zip(tokens.tolist(), true_lengths, strict=True)]
        if not all(self._sequences):
            raise UserError("a prompt is empty; give it at least one token")
        self.sampling = Sampling(**sampling)
        self._rows = list(range(len(tokens)))  # row in the batch of each sequence that is not finished
        self._generated, self._finished = [0] * len(tokens), set(self._rows if max_tokens == 0 else ())
        self._max_tokens, self._stop_tokens, self._batch_size = max_tokens, frozenset(stop_tokens), len(tokens)
        seeds = [seed] * len(tokens) if isinstance(seed, int) else seed
        uniform = uniform_numbers(seeds, self._uniform_per_token, max_tokens + self._lookahead)
        self._uniform = uniform.to(tokens.device)  # (B, per token, count)
        self._appeared: Tensor | None = None  # (B, V)
        if self.sampling.repetition_penalty != 1:
            self._appeared = torch.zeros(len(tokens), model.vocab_size, dtype=torch.bool, device=tokens.device)
            for row, sequence in enumerate(self._sequences):
                self._appeared[row, sequence] = True
        self._state = DecodingState(model, len(tokens), self._max_length())

    def finish(self, row: int) -> None:
        """Generate nothing more for a row.

        Args:
            row: its index in the batch.
        """
        self._finished.add(row)

    @torch.inference_mode()
    def __next__(self) -> list[list[int]]:
        """The new tokens of each row."""
        self._drop_finished()
        if not self._rows:
            raise StopIteration
        new_tokens: list[list[int]] = [[] for _ in range(self._batch_size)]
        for index, tokens in enumerate(self._step()):
            tokens = self._until_end(index, tokens)
            self._sequences[index] += tokens
            self._generated[index] += len(tokens)
            if self._appeared is not None:
                self._appeared[index, tokens] = True
            new_tokens[self._rows[index]] = tokens
        return new_tokens

    def _step(self) -> list[list[int]]:
        """The next tokens of each sequence that is not finished."""
        logits = self._state.prefill(self._sequences)
        if not any(self._generated) and not logits.isfinite().all():
            raise UserError("the model's logits are not finite: it diverged in training")
        return self.sampling.next_tokens(logits, self._next_uniform(1)[:, 0, 0], self._appeared).unsqueeze(1).tolist()

    def _next_uniform(self, count: int) -> Tensor:
        """The random numbers of the next `count` tokens of each sequence, (B, per token, count)."""
        generated = torch.tensor(self._generated, device=self._uniform.device)
        indices = (generated.unsqueeze(1) + torch.arange(count, device=generated.device)).unsqueeze(1)  # (B, 1, count)
        return self._uniform.gather(2, indices.expand(-1, self._uniform_per_token, -1))

    def _until_end(self, index: int, tokens: list[int]) -> list[int]:
        """A sequence's new tokens up to its end."""
        remaining = self._max_tokens - self._generated[index]
        stop = next((at for at, token in enumerate(tokens) if token in self._stop_tokens), len(tokens))
        if stop < len(tokens) or len(tokens) >= remaining:
            self.finish(self._rows[index])
        return tokens[: min(stop + 1, remaining)]

    def _drop_finished(self) -> None:
        active = [index for index, row in enumerate(self._rows) if row not in self._finished]
        if len(active) < len(self._rows):
            self._select(active)

    def _select(self, active: list[int]) -> None:
        self._rows, self._sequences = (
            [self._rows[index] for index in active],
            [self._sequences[index] for index in active],
        )
        self._generated, self._uniform = [self._generated[index] for index in active], self._uniform[active]
        self._appeared = None if self._appeared is None else self._appeared[active]
        if active:
            self._state.select(active)

    def _max_length(self) -> int:
        """Number of tokens that a sequence has at most."""
        return max(map(len, self._sequences)) + self._max_tokens + self._lookahead
