"""A conversation with a language model: a transcript that it writes on. Knows no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aibig.inference.text_generator import TextGenerator


class Chat:
    """Turns of two speakers, each a paragraph that begins with the speaker's name.

    A base model, which was not trained on conversations, writes on as such a text would go on in what it has read.
    user, assistant: the names. system: what stands before the first turn. Other settings as of
    `TextGenerator.stream`.
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
        """Forget the conversation."""
        self.transcript = f"{self.system}\n\n" if self.system else ""

    def reply(self, message: str) -> Iterator[str]:
        """The answer to `message` as it is made; it ends where a turn of the user's would begin.

        The transcript holds what was made so far, also if the answer is broken off.

        Raises UserError for characters that the vocabulary does not know; the conversation stays as it was.
        """
        prompt = f"{self.transcript}{self.user}: {message}\n\n{self.assistant}:"
        pieces = self.generator.stream(prompt, stop=[f"\n{self.user}:", f"\n{self.assistant}:"], **self.settings)
        answer = ""
        for piece in pieces:
            answer += piece
            self.transcript = f"{prompt}{answer.rstrip()}\n\n"
            yield piece
