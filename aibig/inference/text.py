"""Text that goes on from a prompt. Knows no task and no training data.

T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aibig.data.shards import tokenize
from aibig.data.text import read_text
from aibig.data.tokenizer import tokenizer_from_dict
from aibig.errors import UserError
from aibig.inference.model_folder import inference_device
from aibig.inference.modes import evaluating
from aibig.inference.reading import read_through
from aibig.layers.language_model import LanguageModel
from aibig.outcomes import Tokens


class TextGenerator:
    """A language model with its tokenizer.

    facts: what model.json holds.
    """

    def __init__(self, model: LanguageModel, facts: dict[str, Any]) -> None:
        self.device = inference_device()
        self.model = model.to(self.device).eval()
        self.tokenizer = tokenizer_from_dict(facts["tokenizer"])
        self._reading = {name: facts[name] for name in ("context", "carries_memory") if name in facts}

    def generate(self, prompt: str, **settings: Any) -> str:
        """What follows `prompt`, without it; settings as of `stream`."""
        return "".join(self.stream(prompt, **settings))

    def stream(
        self,
        prompt: str,
        *,
        max_tokens: int = 200,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int = 0,
    ) -> Iterator[str]:
        """Pieces of text as they are made.

        temperature: 0 takes the likeliest token; higher is more varied. top_k: only so many likeliest tokens.

        Raises UserError for an empty prompt, or one with characters that the vocabulary does not know.
        """
        if not 0 <= temperature < math.inf or (top_k is not None and top_k < 1) or max_tokens < 0:
            raise UserError("temperature and max_tokens must be at least 0, top_k at least 1")
        generator = torch.Generator().manual_seed(seed)
        tokens = self._encode(prompt)
        made: list[int] = []
        memory, fed, shown = self.model.start_memory(), 0, ""
        for _ in range(max_tokens):
            limit = self.model.context
            if (limit is not None and len(tokens) > limit and fed == 0) or (limit is not None and fed + 1 > limit):
                memory, fed = self.model.start_memory(), 0  # read the latest half again, and go on from there
                new = tokens[-max(1, limit // 2) :]
            else:
                new = tokens if fed == 0 else tokens[-1:]
            scores, memory = self._scores(new, memory)
            fed += len(new)
            chosen = choose(scores, temperature, top_k, generator)
            tokens.append(chosen)
            made.append(chosen)
            text = self.tokenizer.between + self.tokenizer.decode(made)
            if not text.endswith("\ufffd"):  # else a character of several tokens is not complete yet
                yield text[len(shown) :]
                shown = text

    def next_tokens(self, prompt: str, count: int = 10) -> list[tuple[str, float]]:
        """The likeliest next tokens after `prompt` and their probabilities."""
        tokens = self._encode(prompt)[-(self.model.context or len(prompt)) :]
        probabilities = self.model.next_token_probabilities(torch.tensor([tokens], device=self.device))[0]
        best = probabilities.topk(min(count, len(probabilities)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [(self.tokenizer.decode([token]), probability) for token, probability in pairs]

    def outcome(self, path: str | Path) -> Tokens:
        """The losses of the whole of a file (.txt, .jsonl, .parquet), or of those in a folder, read as in training's
        evaluations.

        Raises UserError for a text of fewer than two tokens, or with characters that the vocabulary does not know.
        """
        tokens = tokenize(read_text(path=str(path)), self.tokenizer).tokens
        if len(tokens) < 2:
            raise UserError(f"{path}: has too little text to measure on; give at least two tokens")
        with evaluating(self.model):
            return read_through(self.model, tokens, self.tokenizer, **self._reading)

    def _encode(self, prompt: str) -> list[int]:
        """The prompt's tokens. Raises UserError if there are none."""
        tokens: list[int] = self.tokenizer.encode(prompt).tolist() if prompt else []
        if not tokens:
            raise UserError("the prompt is empty; give at least one character that is no blank")
        return tokens

    @torch.no_grad()
    def _scores(self, tokens: list[int], memory: Any) -> tuple[Tensor, Any]:
        """Scores (V,) of the token after `tokens`, and the memory of all so far."""
        logits, memory = self.model(torch.tensor([tokens], device=self.device), None, memory)
        return logits[0, -1].float().cpu(), memory


def choose(scores: Tensor, temperature: float, top_k: int | None, generator: torch.Generator) -> int:
    """A token drawn from scores (V,)."""
    if temperature == 0:
        return int(scores.argmax())
    if top_k is not None and top_k < len(scores):
        scores = scores.masked_fill(scores < scores.topk(top_k).values[-1], -torch.inf)
    return int(torch.multinomial((scores / temperature).softmax(0), 1, generator=generator))
