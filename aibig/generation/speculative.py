"""A small model proposes tokens, the large one checks several at once (arXiv 2211.17192). Knows no text.

B batch, T tokens proposed, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aibig.config.settings import PositiveInt, checked
from aibig.errors import UserError
from aibig.generation.decoding import Generation
from aibig.generation.sampling import pick
from aibig.generation.state import Reader

OWN, PROPOSING, ACCEPTING = range(3)  # what the draws of a token are for


class Speculation(Generation):
    """A Generation whose tokens a `draft` proposes, `draft_tokens` at a time; the distribution stays the model's own.

    Raises UserError for a model that can't forget what it has read, and for a draft of another vocabulary.
    """

    draws_per_token = 3

    @checked
    def __init__(self, model: Any, *given: Any, draft: Any, draft_tokens: PositiveInt = 4, **settings: Any) -> None:
        self._most_proposed = draft_tokens
        if not model.can_truncate:
            raise UserError(
                f"draft: the text of a {type(model).__name__} can't be drafted, since it can't forget tokens that it "
                "has read; leave draft out, or take a Transformer"
            )
        if draft.vocab_size != model.vocab_size:
            raise UserError(
                f"draft: has a vocabulary of {draft.vocab_size} tokens, the model one of {model.vocab_size}; take a "
                "draft that was trained with the same tokenizer"
            )
        super().__init__(model, *given, **settings)
        self._draft = Reader(draft, len(self._texts), self._most_tokens())

    def _write(self) -> list[list[int]]:
        if not any(self._made):
            return super()._write()
        known = [len(text) - begin - 1 for text, begin in zip(self._texts, self._reader.begins, strict=True)]
        self._reader.forget([min(pair) for pair in zip(known, self._reader.lengths, strict=True)])
        self._reader.make_room(self._texts)
        count = self._worth_proposing()
        if count == 0:
            return super()._write()
        draws = self._draws_from(count + 1)  # (B, 3, T + 1)
        proposed, drafted, seen = self._propose(count, draws[:, PROPOSING])
        wanted = self.sampling.probabilities(self._reader.check(self._texts, proposed), seen)  # (B, T + 1, V)
        accepted, own = accept(proposed, drafted, wanted, draws[:, ACCEPTING, :-1], draws[:, OWN])
        rows = zip(proposed.tolist(), accepted.tolist(), own.tolist(), strict=True)
        return [[*tokens[:number], last] for tokens, number, last in rows]

    def _worth_proposing(self) -> int:
        """How many tokens to propose: no more than both contexts and max_tokens have room for."""
        limits = [self._most_proposed, self._max_tokens - min(self._made) - 1]
        room = self._reader.room(self._texts)
        if room is not None:
            limits.append(room)
        if self._draft.limit is not None:
            limits.append(self._draft.limit // 2)
        return min(limits)

    def _propose(self, count: int, draws: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The draft's tokens (B, T), their distributions (B, T, V), and what was seen before each and after all.

        The draft then remembers the texts, but not what it proposed.
        """
        draft, tokens, drafted, seen = self._draft, [], [], [self._seen]
        draft.make_room(self._texts, count)
        logits = draft.catch_up(self._texts)  # (B, V)
        state, lengths = draft.state, draft.lengths
        for step in range(count):
            drafted.append(self.sampling.probabilities(logits, seen[-1]))
            tokens.append(pick(drafted[-1], draws[:, step]))
            seen.append(None if seen[-1] is None else seen[-1].scatter(1, tokens[-1].unsqueeze(1), True))
            if step + 1 < count:
                logits = draft.read(tokens[-1].unsqueeze(1))[:, -1]
        if draft.model.can_truncate:
            draft.forget(lengths)
        else:  # the memory of before is as it was
            draft.state, draft.lengths = state, lengths
        looked_at = None if self._seen is None else torch.stack([one for one in seen if one is not None], 1)
        return torch.stack(tokens, 1), torch.stack(drafted, 1), looked_at

    def _keep(self, places: list[int]) -> None:
        super()._keep(places)
        if places:
            self._draft.keep(places)

    def _beyond(self) -> int:
        return self._most_proposed


def accept(
    proposed: Tensor, drafted: Tensor, wanted: Tensor, draws: Tensor, own_draws: Tensor
) -> tuple[Tensor, Tensor]:
    """How many of each row's proposed tokens (B, T) stand, (B,), and the token that follows them, (B,).

    drafted (B, T, V): distributions that they were drawn from. wanted (B, T + 1, V): those that the text is to have.
    draws (B, T), own_draws (B, T + 1): numbers from 0 to 1. A token stands with probability wanted / drafted; the
    first that does not is drawn from what is wanted beyond what was drafted (arXiv 2211.17192, algorithm 1).
    """
    index = proposed.unsqueeze(-1)
    ratio = (wanted[:, :-1].gather(-1, index) / drafted.gather(-1, index)).squeeze(-1)  # (B, T)
    accepted = (draws < ratio).long().cumprod(1).sum(1)  # (B,)
    rest = torch.cat([(wanted[:, :-1] - drafted).clamp(min=0), wanted[:, -1:]], 1)
    rest = torch.where(rest.sum(-1, keepdim=True) > 0, rest, wanted)  # where rounding left nothing
    rest = rest.gather(1, accepted.view(-1, 1, 1).expand(-1, 1, rest.shape[-1])).squeeze(1)  # (B, V)
    return accepted, pick(rest, own_draws.gather(1, accepted.unsqueeze(1)).squeeze(1))
