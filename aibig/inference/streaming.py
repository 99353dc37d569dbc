"""Token ids to text while they are generated. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence

from aibig.data.text.tokenizer import Tokenizer

REPLACEMENT_CHARACTER = "\ufffd"  # what a character decodes to while some of its tokens are missing


class StreamingDecoder:
    """The text of a sequence of tokens, up to the first stop string, which is left out.

    Text that may become a stop string, or part of a character, is held back until this is decided.

    Args:
        tokenizer: of the tokens.
        stop: strings that finish the text.

    Attributes:
        is_finished: whether a stop string has come.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self._tokenizer, self._stop = tokenizer, stop
        self._tokens: list[int] = []
        self._length = 0  # characters that have been returned
        self.is_finished = False

    def add(self, tokens: Sequence[int]) -> str:
        """Take new tokens, and return the text that is certain with them.

        Args:
            tokens: ids.
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
        """Return what was held back, when no more tokens come."""
        return "" if self.is_finished else self._new_part(self._decode())

    def _decode(self) -> str:
        return self._tokenizer.token_separator + self._tokenizer.decode(self._tokens) if self._tokens else ""

    def _new_part(self, text: str) -> str:
        new = text[self._length :]
        self._length = max(self._length, len(text))
        return new

    def _uncertain_length(self, text: str) -> int:
        """How many of the last characters may still change, or begin a stop string."""
        incomplete = len(text) - len(text.rstrip(REPLACEMENT_CHARACTER))
        prefixes = (string[:length] for string in self._stop for length in range(1, len(string) + 1))
        return max(incomplete, max((len(prefix) for prefix in prefixes if text.endswith(prefix)), default=0))
