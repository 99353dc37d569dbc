"""Texts that a language model writes on, token by token. Knows no text: tokens are numbers.

B batch, T time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from aibig.config.settings import NonNegativeInt, checked
from aibig.errors import UserError
from aibig.generation.sampling import Sampling, draws_of
from aibig.generation.state import Reader


class Generation(Iterator[list[list[int]]]):
    """Iterate for the tokens that were added to each row: (B lists), empty for those that have ended.

    model: in evaluation mode. tokens (B, T), lengths (B,): what the rows begin with, right-padded. max_tokens: how
    many are added to each at most. stop_tokens: a row ends with any of them. seed: of all rows, or one for each; what
    a row becomes depends on its own alone. sampling: the settings of `Sampling`. Beyond the model's context see
    `Reader`.

    Raises UserError for a classifier, for values out of range, and if the model's outputs are not finite.
    """

    draws_per_token = 1

    @checked
    def __init__(
        self,
        model: Any,  # a LanguageModel, whose module imports this one
        tokens: Tensor,
        lengths: Tensor | None = None,
        *,
        max_tokens: NonNegativeInt = 200,
        stop_tokens: Sequence[int] = (),
        seed: int | Sequence[int] = 0,
        **sampling: Any,
    ) -> None:
        if model.num_classes is not None:
            raise UserError("a classifier of texts writes none; take a language model")
        true = [tokens.shape[1]] * len(tokens) if lengths is None else lengths.tolist()
        self._texts = [row[:length] for row, length in zip(tokens.tolist(), true, strict=True)]
        if not all(self._texts):
            raise UserError("a text to go on from is empty; give it at least one token")
        self.sampling = Sampling(**sampling)
        self._rows = list(range(len(tokens)))  # the number of each text that is still written
        self._made, self._ended = [0] * len(tokens), set(self._rows if max_tokens == 0 else ())
        self._max_tokens, self._stop_tokens, self._batch_size = max_tokens, frozenset(stop_tokens), len(tokens)
        seeds = [seed] * len(tokens) if isinstance(seed, int) else seed
        self._draws = draws_of(seeds, self.draws_per_token, max_tokens + self._beyond()).to(tokens.device)
        self._seen = None if self.sampling.repetition_penalty == 1 else seen_in(self._texts, model.vocab_size, tokens)
        self._reader = Reader(model, len(tokens), self._most_tokens())

    def end(self, row: int) -> None:
        """Add nothing more to this row."""
        self._ended.add(row)

    @torch.inference_mode()
    def __next__(self) -> list[list[int]]:
        """The new tokens of each row."""
        self._drop_ended()
        if not self._rows:
            raise StopIteration
        added: list[list[int]] = [[] for _ in range(self._batch_size)]
        for place, new in enumerate(self._write()):
            new = self._cut(place, new)
            self._texts[place] += new
            self._made[place] += len(new)
            if self._seen is not None:
                self._seen[place, new] = True
            added[self._rows[place]] = new
        return added

    def _write(self) -> list[list[int]]:
        """The next tokens of each text that has not ended."""
        logits = self._reader.catch_up(self._texts)
        if not any(self._made) and not logits.isfinite().all():
            raise UserError("the model's outputs are not finite: it diverged in training")
        return self.sampling.choose(logits, self._draws_from(1)[:, 0, 0], self._seen).unsqueeze(1).tolist()

    def _draws_from(self, count: int) -> Tensor:
        """The draws for the next tokens of each row, (B, kinds, count)."""
        made = torch.tensor(self._made, device=self._draws.device)
        places = (made.unsqueeze(1) + torch.arange(count, device=made.device)).unsqueeze(1)  # (B, 1, count)
        return self._draws.gather(2, places.expand(-1, self.draws_per_token, -1))

    def _cut(self, place: int, new: list[int]) -> list[int]:
        """Of a row's new tokens those up to its end."""
        left = self._max_tokens - self._made[place]
        stop = next((at for at, token in enumerate(new) if token in self._stop_tokens), len(new))
        if stop < len(new) or len(new) >= left:
            self.end(self._rows[place])
        return new[: min(stop + 1, left)]

    def _drop_ended(self) -> None:
        going = [place for place, row in enumerate(self._rows) if row not in self._ended]
        if len(going) < len(self._rows):
            self._keep(going)

    def _keep(self, places: list[int]) -> None:
        self._rows, self._texts = [self._rows[one] for one in places], [self._texts[one] for one in places]
        self._made, self._draws = [self._made[one] for one in places], self._draws[places]
        self._seen = None if self._seen is None else self._seen[places]
        if places:
            self._reader.keep(places)

    def _beyond(self) -> int:
        """How many tokens more than max_tokens may have to be looked at."""
        return 0

    def _most_tokens(self) -> int:
        return max(map(len, self._texts)) + self._max_tokens + self._beyond()


def seen_in(texts: Sequence[Sequence[int]], vocab_size: int, like: Tensor) -> Tensor:
    """Which tokens stand in each text, (B, V)."""
    seen = torch.zeros(len(texts), vocab_size, dtype=torch.bool, device=like.device)
    for row, text in enumerate(texts):
        seen[row, text] = True
    return seen
