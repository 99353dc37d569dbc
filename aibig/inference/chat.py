"""A conversation with a language model: a transcript that it continues. Knows no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aibig.inference.text_generator import TextGenerator


class Chat:
    """Turns of two speakers, each a paragraph that begins with the speaker's name.

    A base model, which was not trained on conversations, continues the transcript like any other text.

    Args:
        generator: the language model.
        user: name of the user.
        assistant: name of the model.
        system: text before the first turn, such as instructions.
        settings: those of `TextGenerator.stream`.

    Attributes:
        transcript: all turns so far.
    """

    def __init__(
        self,
        generator: TextGenerator,
        *,
        user: str = "User",
        assistant: str = "Assistant",
        system: str = "",
        **settings: Any,
    ) -> None:
        self.generator, self.settings = generator, settings
        self.user, self.assistant, self.system = user, assistant, system
        self.reset()

    def reset(self) -> None:
        """Begin a new conversation."""
        self.transcript = f"{self.system}\n\n" if self.system else ""

    def reply(self, message: str) -> Iterator[str]:
        """The answer, in pieces as they are generated. It ends before the next turn of the user.

        If the caller stops early, the transcript has the answer up to there.

        Args:
            message: the user's turn.

        Raises:
            UserError: the message has characters that the vocabulary lacks; the transcript is unchanged.
        """
        prompt = f"{self.transcript}{self.user}: {message}\n\n{self.assistant}:"
        pieces = self.generator.stream(prompt, stop=[f"\n{self.user}:", f"\n{self.assistant}:"], **self.settings)
        answer = ""
        for piece in pieces:
            answer += piece
            self.transcript = f"{prompt}{answer.rstrip()}\n\n"
            yield piece
