"""Generates text that continues a prompt. Knows no task and no training data.

B prompts, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import torch

from aibig.data.text.tokenizer import tokenizer_from_dict
from aibig.errors import UserError
from aibig.generation.language_model import LanguageModel
from aibig.generation.state import length_after_shift, pad_tokens
from aibig.inference.streaming import StreamingDecoder
from aibig.inference.text_files import read_tokens, top_tokens
from aibig.layers.utils.modes import eval_mode
from aibig.metrics.outcomes import TokenOutcome
from aibig.metrics.text_scores import score_text
from aibig.pretrained.model_folder import inference_device


class TextGenerator:
    """A language model with its tokenizer.

    Args:
        model: a language model.
        inference_config: contents of model.json.

    Attributes:
        note: a remark about the latest prompts, such as that one was truncated; "" for none.
    """

    def __init__(self, model: LanguageModel, inference_config: dict[str, Any]) -> None:
        self.device = inference_device()
        self.model = model.to(self.device).eval()
        self.tokenizer = tokenizer_from_dict(inference_config["tokenizer"])
        self.note = ""
        self._window_settings = {k: v for k, v in inference_config.items() if k in ("context", "carries_state")}

    @overload
    def generate(self, prompt: str, **settings: Any) -> str: ...

    @overload
    def generate(self, prompt: Sequence[str], **settings: Any) -> list[str]: ...

    def generate(self, prompt: str | Sequence[str], **settings: Any) -> str | list[str]:
        """The continuation of a prompt, or of each of several in one batch, without the prompt.

        Args:
            prompt: a text, or several.
            settings: those of `stream_batch`.
        """
        if isinstance(prompt, str):
            return "".join(self.stream(prompt, **settings))
        continuations = [""] * len(prompt)
        for pieces in self.stream_batch(prompt, **settings):
            continuations = [text + piece for text, piece in zip(continuations, pieces, strict=True)]
        return continuations

    def stream(self, prompt: str, **settings: Any) -> Iterator[str]:
        """The continuation of a prompt, in pieces as they are generated.

        Args:
            prompt: a text.
            settings: those of `stream_batch`.
        """
        for (piece,) in self.stream_batch([prompt], **settings):
            if piece:
                yield piece

    def stream_batch(
        self,
        prompts: Sequence[str],
        *,
        stop: Sequence[str] = (),
        draft: TextGenerator | None = None,
        **settings: Any,
    ) -> Iterator[list[str]]:
        """The continuations of prompts, in pieces: at each step a list with a piece of each, which may be "".

        A continuation also ends at the tokenizer's end-of-text token. `note` says whether prompts are truncated.

        Args:
            prompts: texts, (B,).
            stop: strings; a continuation ends before the first of them.
            draft: smaller model with the same tokenizer that proposes tokens; only the time changes.
            settings: those of `LanguageModel.stream`: max_tokens, temperature (0 is greedy), top_k, top_p, min_p,
                repetition_penalty, seed.

        Raises:
            UserError: there are no prompts, one is empty or has unknown characters, a stop string is empty, the draft
                has another tokenizer, or a setting is out of range.
        """
        if not prompts or "" in stop:
            raise UserError("give at least one prompt, and no empty stop string")
        if draft is not None:
            if draft.tokenizer.fingerprint != self.tokenizer.fingerprint:
                raise UserError("draft: has another vocabulary; use a model that was trained with the same tokenizer")
            settings["draft"] = draft.model
        rows = [self._encode(prompt) for prompt in prompts]
        self.note = self._truncation_note(rows)
        eos_token_id = self.tokenizer.eos_token_id
        tokens, lengths = pad_tokens(rows, self.device)
        stop_tokens = () if eos_token_id is None else (eos_token_id,)
        steps = self.model.stream(tokens, lengths, stop_tokens=stop_tokens, **settings)
        decoders = [StreamingDecoder(self.tokenizer, stop) for _ in prompts]
        for new_tokens in steps:
            yield [decoder.add(new) for decoder, new in zip(decoders, new_tokens, strict=True)]
            for row, decoder in enumerate(decoders):
                if decoder.is_finished:
                    steps.finish(row)
        yield [decoder.flush() for decoder in decoders]

    def _truncation_note(self, rows: Sequence[Sequence[int]]) -> str:
        """A remark on prompts that are longer than the model's context; "" for none."""
        limit = self.model.context
        longest = max(map(len, rows))
        if limit is None or longest <= limit:
            return ""
        read = f"its last {length_after_shift(limit)} are read"
        return f"the prompt has {longest} tokens, more than the model's context of {limit}: {read}"

    def next_tokens(self, prompt: str, count: int = 10) -> list[tuple[str, float]]:
        """The most probable next tokens and their probabilities.

        Args:
            prompt: a text.
            count: number of tokens.
        """
        tokens = self._encode(prompt)[-(self.model.context or len(prompt)) :]
        probabilities = self.model.next_token_probabilities(torch.tensor([tokens], device=self.device))[0]
        return top_tokens(probabilities, self.tokenizer, count)

    def outcome(self, path: str | Path) -> TokenOutcome:
        """The loss over a text, in the same windows as in the run's evaluations.

        Args:
            path: see `read_tokens`.
        """
        tokens = read_tokens(path, self.tokenizer)
        with eval_mode(self.model):
            return score_text(self.model, tokens, self.tokenizer, **self._window_settings)

    def _encode(self, prompt: str) -> list[int]:
        """The prompt's token ids. Raises UserError if there are none."""
        tokens: list[int] = self.tokenizer.encode_with_special_tokens(prompt).tolist() if prompt else []
        if not tokens:
            raise UserError("the prompt is empty; give at least one character that is not whitespace")
        return tokens
