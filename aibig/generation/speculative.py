"""Speculative decoding: a small model proposes tokens, the large one scores several at once. Knows no text.

B batch, T tokens proposed, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aibig.config.settings import PositiveInt, checked
from aibig.errors import UserError
from aibig.generation.base import BaseLanguageModel
from aibig.generation.decoding import Decoding
from aibig.generation.sampling import sample_tokens
from aibig.generation.state import DecodingState

SAMPLE, PROPOSE, ACCEPT = range(3)  # what the random numbers of a token are for


class SpeculativeDecoding(Decoding):
    """Decoding of tokens that a draft model proposes; their distribution stays the model's own (arXiv 2211.17192).

    Args:
        model: a language model in evaluation mode that can truncate its state.
        prompts: token ids and true lengths, as those of `Decoding`.
        draft: a smaller language model of the same vocabulary, in evaluation mode.
        draft_tokens: number of tokens that it proposes at a time.
        settings: those of `Decoding`.

    Raises:
        UserError: the model can't truncate its state, or the draft has another vocabulary.
    """

    _uniform_per_token = 3

    @checked
    def __init__(
        self, model: BaseLanguageModel, *prompts: Any, draft: Any, draft_tokens: PositiveInt = 4, **settings: Any
    ) -> None:
        self._lookahead = draft_tokens
        if not model.can_truncate:
            raise UserError(
                f"draft: a {type(model).__name__} can't decode speculatively, since it can't truncate its state; "
                "leave draft out, or take a Transformer"
            )
        if draft.vocab_size != model.vocab_size:
            raise UserError(
                f"draft: has a vocabulary of {draft.vocab_size} tokens, the model one of {model.vocab_size}; take a "
                "draft that was trained with the same tokenizer"
            )
        super().__init__(model, *prompts, **settings)
        self._draft_state = DecodingState(draft, len(self._sequences), self._max_length())

    def _step(self) -> list[list[int]]:
        if not any(self._generated):
            return super()._step()
        sequences, state = self._sequences, self._state
        known = [len(sequence) - start - 1 for sequence, start in zip(sequences, state.starts, strict=True)]
        state.truncate([min(pair) for pair in zip(known, state.lengths, strict=True)])
        state.shift_context(sequences)
        count = self._proposal_length()
        if count == 0:
            return super()._step()
        uniform = self._next_uniform(count + 1)  # (B, 3, T + 1)
        proposed, draft_probabilities, appeared = self._propose(count, uniform[:, PROPOSE])
        probabilities = self.sampling.probabilities(state.score_proposals(sequences, proposed), appeared)
        accepted, following = rejection_sample(
            proposed, draft_probabilities, probabilities, uniform[:, ACCEPT, :-1], uniform[:, SAMPLE]
        )
        rows = zip(proposed.tolist(), accepted.tolist(), following.tolist(), strict=True)
        return [[*tokens[:number], last] for tokens, number, last in rows]

    def _proposal_length(self) -> int:
        """How many tokens to propose: no more than both contexts and max_tokens have room for."""
        limits = [self._lookahead, self._max_tokens - min(self._generated) - 1]
        free = self._state.free_context(self._sequences)
        if free is not None:
            limits.append(free)
        if self._draft_state.context is not None:
            limits.append(self._draft_state.context // 2)
        return min(limits)

    def _propose(self, count: int, uniform: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The draft's tokens (B, T), their distributions (B, T, V), and what has appeared up to each, (B, T + 1, V).

        Afterwards the draft's state is that of the sequences, without what it proposed.
        """
        draft, tokens, distributions, appeared = self._draft_state, [], [], [self._appeared]
        draft.shift_context(self._sequences, count)
        logits = draft.prefill(self._sequences)  # (B, V)
        state, lengths = draft.state, draft.lengths
        for step in range(count):
            distributions.append(self.sampling.probabilities(logits, appeared[-1]))
            tokens.append(sample_tokens(distributions[-1], uniform[:, step]))
            appeared.append(None if appeared[-1] is None else appeared[-1].scatter(1, tokens[-1].unsqueeze(1), True))
            if step + 1 < count:
                logits = draft.forward(tokens[-1].unsqueeze(1))[:, -1]
        if draft.model.can_truncate:
            draft.truncate(lengths)
        else:  # it makes new states, so that the earlier one is unchanged
            draft.state, draft.lengths = state, lengths
        stacked = None if self._appeared is None else torch.stack([mask for mask in appeared if mask is not None], 1)
        return torch.stack(tokens, 1), torch.stack(distributions, 1), stacked

    def _select(self, active: list[int]) -> None:
        super()._select(active)
        if active:
            self._draft_state.select(active)


def rejection_sample(
    proposed: Tensor, draft: Tensor, target: Tensor, accept_uniform: Tensor, sample_uniform: Tensor
) -> tuple[Tensor, Tensor]:
    """How many of each row's proposed tokens are accepted, (B,), and the token that follows them, (B,).

    A token is accepted with probability target / draft. The first that is not is replaced by a sample from the
    positive part of target - draft (arXiv 2211.17192, algorithm 1).

    Args:
        proposed: token ids, (B, T).
        draft: the distributions that they were sampled from, (B, T, V).
        target: the distributions that the result must have, (B, T + 1, V).
        accept_uniform: random numbers from 0 to 1, (B, T).
        sample_uniform: further ones, (B, T + 1).
    """
    index = proposed.unsqueeze(-1)
    ratio = (target[:, :-1].gather(-1, index) / draft.gather(-1, index)).squeeze(-1)  # (B, T)
    accepted = (accept_uniform < ratio).long().cumprod(1).sum(1)  # (B,)
    residual = torch.cat([(target[:, :-1] - draft).clamp(min=0), target[:, -1:]], 1)
    residual = torch.where(residual.sum(-1, keepdim=True) > 0, residual, target)  # where rounding left nothing
    residual = residual.gather(1, accepted.view(-1, 1, 1).expand(-1, 1, residual.shape[-1])).squeeze(1)  # (B, V)
    return accepted, sample_tokens(residual, sample_uniform.gather(1, accepted.unsqueeze(1)).squeeze(1))
