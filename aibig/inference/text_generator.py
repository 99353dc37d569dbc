"""Text that goes on from a prompt. Knows no task and no training data.

T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import torch

from aibig.data.text.tokenizer import tokenizer_from_dict
from aibig.errors import UserError
from aibig.generation.language_model import LanguageModel
from aibig.generation.state import latest, padded
from aibig.inference.streaming import Writing
from aibig.inference.text_files import likeliest, tokens_of
from aibig.layers.modes import evaluating
from aibig.metrics.outcomes import TokenOutcome
from aibig.metrics.text_scores import score_text
from aibig.pretrained.model_folder import inference_device


class TextGenerator:
    """A language model with its tokenizer.

    facts: what model.json holds.
    """

    def __init__(self, model: LanguageModel, facts: dict[str, Any]) -> None:
        self.device = inference_device()
        self.model = model.to(self.device).eval()
        self.tokenizer = tokenizer_from_dict(facts["tokenizer"])
        self.note = ""  # what there is to say of the latest prompts
        self._reading = {name: facts[name] for name in ("context", "carries_state") if name in facts}

    @overload
    def generate(self, prompt: str, **settings: Any) -> str: ...

    @overload
    def generate(self, prompt: Sequence[str], **settings: Any) -> list[str]: ...

    def generate(self, prompt: str | Sequence[str], **settings: Any) -> str | list[str]:
        """What follows `prompt`, without it, or each of several, made in one batch; settings as of `stream`."""
        if isinstance(prompt, str):
            return "".join(self.stream(prompt, **settings))
        made = [""] * len(prompt)
        for pieces in self.stream_all(prompt, **settings):
            made = [text + piece for text, piece in zip(made, pieces, strict=True)]
        return made

    def stream(self, prompt: str, **settings: Any) -> Iterator[str]:
        """Pieces of the text that follows `prompt`, as they are made; settings as of `stream_all`."""
        for (piece,) in self.stream_all([prompt], **settings):
            if piece:
                yield piece

    def stream_all(
        self,
        prompts: Sequence[str],
        *,
        stop: Sequence[str] = (),
        draft: TextGenerator | None = None,
        **settings: Any,
    ) -> Iterator[list[str]]:
        """Pieces of the texts that follow the prompts, one for each at a time, as they are made in one batch.

        stop: a text ends before the first of these strings, and at the tokenizer's end of text, if it has one. draft:
        a smaller model that proposes tokens, which changes the time alone. Others are those of `LanguageModel.stream`:
        max_tokens, temperature (0 takes the likeliest token), top_k, top_p, min_p, repetition_penalty, seed.

        Raises UserError for no prompts, an empty one or an empty stop string, one with characters that the vocabulary
        does not know, a draft of another vocabulary, and settings out of range. `note` says which prompts are cut.
        """
        if not prompts or "" in stop:
            raise UserError("give at least one prompt, and no empty stop string")
        if draft is not None:
            if draft.tokenizer.fingerprint != self.tokenizer.fingerprint:
                raise UserError("draft: has another vocabulary; take a model that was trained with the same tokenizer")
            settings["draft"] = draft.model
        rows = [self._encode(prompt) for prompt in prompts]
        self.note = self._cut(rows)
        end = self.tokenizer.end_of_text
        tokens, lengths = padded(rows, self.device)
        going = self.model.stream(tokens, lengths, stop_tokens=() if end is None else (end,), **settings)
        writings = [Writing(self.tokenizer, stop) for _ in prompts]
        for added in going:
            yield [writing.add(new) for writing, new in zip(writings, added, strict=True)]
            for row, writing in enumerate(writings):
                if writing.ended:
                    going.end(row)
        yield [writing.rest() for writing in writings]

    def _cut(self, rows: Sequence[Sequence[int]]) -> str:
        """What is not read of prompts that are longer than the model's context, in a line; "" for nothing."""
        limit = self.model.context
        longest = max(map(len, rows))
        if limit is None or longest <= limit:
            return ""
        read = f"its last {latest(limit)} are read"
        return f"the prompt has {longest} tokens, more than the model's context of {limit}: {read}"

    def next_tokens(self, prompt: str, count: int = 10) -> list[tuple[str, float]]:
        """The likeliest next tokens after `prompt` and their probabilities."""
        tokens = self._encode(prompt)[-(self.model.context or len(prompt)) :]
        probabilities = self.model.next_token_probabilities(torch.tensor([tokens], device=self.device))[0]
        return likeliest(probabilities, self.tokenizer, count)

    def outcome(self, path: str | Path) -> TokenOutcome:
        """The losses of all that `tokens_of` finds, read as in training's evaluations."""
        tokens = tokens_of(path, self.tokenizer)
        with evaluating(self.model):
            return score_text(self.model, tokens, self.tokenizer, **self._reading)

    def _encode(self, prompt: str) -> list[int]:
        """The prompt's tokens. Raises UserError if there are none."""
        tokens: list[int] = self.tokenizer.encode_whole(prompt).tolist() if prompt else []
        if not tokens:
            raise UserError("the prompt is empty; give at least one character that is no blank")
        return tokens
