"""Decodes token ids while they are generated. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence

from aibig.data.text.tokenizer import Tokenizer

REPLACEMENT_CHARACTER = "\ufffd"  # decoded for a character of which tokens are missing


class StreamingDecoder:
    """Decodes tokens to text, up to the first stop string, which is left out.

    Text that may be the beginning of a stop string, or an incomplete character, is held back until more tokens decide.

    Args:
        tokenizer: tokenizer of the tokens.
        stop: strings that end the text.

    Attributes:
        is_finished: whether the text has reached a stop string.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self._tokenizer, self._stop = tokenizer, stop
        self._tokens: list[int] = []
        self._length = 0  # characters that have been returned
        self.is_finished = False

    def add(self, tokens: Sequence[int]) -> str:
        """Add new tokens. Returns the new text that further tokens can't change.

        Args:
            tokens: token ids.
        """
        if self.is_finished or not tokens:
            return ""
        self._tokens += [token for token in tokens if token != self._tokenizer.eos_token_id]
        text = self._decode()
        positions = [position for string in self._stop if (position := text.find(string)) >= 0]
        if positions:
            self.is_finished = True
            return self._new_part(text[: min(positions)])
        return self._new_part(text[: len(text) - self._uncertain_length(text)])

    def flush(self) -> str:
        """The text that was held back, at the end of the tokens."""
        return "" if self.is_finished else self._new_part(self._decode())

    def _decode(self) -> str:
        return self._tokenizer.token_separator + self._tokenizer.decode(self._tokens) if self._tokens else ""

    def _new_part(self, text: str) -> str:
        new = text[self._length :]
        self._length = max(self._length, len(text))
        return new

    def _uncertain_length(self, text: str) -> int:
        """The number of last characters that may still change, or that begin a stop string."""
        incomplete = len(text) - len(text.rstrip(REPLACEMENT_CHARACTER))
        prefixes = (string[:length] for string in self._stop for length in range(1, len(string) + 1))
        return max(incomplete, max((len(prefix) for prefix in prefixes if text.endswith(prefix)), default=0))
