"""Tokens as they are made become text as it can be shown. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence

from aibig.data.text.tokenizer import Tokenizer

INCOMPLETE = "\ufffd"  # a character of several tokens of which the last are still to come


class Writing:
    """The text that one row's tokens make, up to the first of the strings `stop`, which is left out.

    What may still become a stop string, or part of a character, is held back until it is known.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self._tokenizer, self._stop = tokenizer, stop
        self._made: list[int] = []
        self._shown = 0
        self.ended = False  # by a stop string

    def add(self, tokens: Sequence[int]) -> str:
        """What can be shown more of now that these tokens have come."""
        if self.ended or not tokens:
            return ""
        self._made += [one for one in tokens if one != self._tokenizer.end_of_text]
        text = self._text()
        ends = [found for one in self._stop if (found := text.find(one)) >= 0]
        if ends:
            self.ended = True
            return self._show(text[: min(ends)])
        return self._show(text[: len(text) - self._held_back(text)])

    def rest(self) -> str:
        """What was held back, when no more tokens come."""
        return "" if self.ended else self._show(self._text())

    def _text(self) -> str:
        return self._tokenizer.between + self._tokenizer.decode(self._made) if self._made else ""

    def _show(self, text: str) -> str:
        new = text[self._shown :]
        self._shown = max(self._shown, len(text))
        return new

    def _held_back(self, text: str) -> int:
        """How many of the last characters may not be shown yet."""
        incomplete = len(text) - len(text.rstrip(INCOMPLETE))
        begun = (
            length
            for one in self._stop
            for length in range(min(len(one), len(text)), 0, -1)
            if text.endswith(one[:length])
        )
        return max(incomplete, max(begun, default=0))
