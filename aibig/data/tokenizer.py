"""Text to token numbers and back: characters, bytes, words, or byte-level BPE. Knows no model.

A vocabulary is made from the text of a run and saved with its model, as plain JSON.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aibig.errors import UserError

UNKNOWN = "<unk>"
UNKNOWN_CHARACTER = "\ufffd"  # Unicode's own for what can't be shown


class Tokenizer(ABC):
    """Text to token numbers and back."""

    between = ""  # what stands between the texts of two tokens

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """How many different tokens there are."""

    @abstractmethod
    def encode(self, text: str) -> NDArray[np.int64]:
        """The token numbers of `text`. Raises UserError for text that the vocabulary can't express."""

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """The text of token numbers."""

    @abstractmethod
    def byte_lengths(self) -> NDArray[np.int64] | None:
        """How many UTF-8 bytes of text each token stands for (vocab_size,); None if the tokens do not say it all."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain values that `from_dict` makes the same tokenizer of."""


class CharacterTokenizer(Tokenizer):
    """One token a character, numbered in the order of their code points.

    Where U+FFFD is one of them, it stands for every character that is not.
    """

    def __init__(self, characters: str) -> None:
        self.characters = "".join(sorted(set(characters)))
        self._codes = _code_points(self.characters)

    @property
    def vocab_size(self) -> int:
        """Different characters."""
        return len(self.characters)

    def encode(self, text: str) -> NDArray[np.int64]:
        """(characters,) token numbers."""
        codes = _code_points(text)
        numbers = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        strange = np.flatnonzero(self._codes[numbers] != codes)
        if len(strange) and UNKNOWN_CHARACTER in self.characters:
            numbers[strange] = self.characters.index(UNKNOWN_CHARACTER)
        elif len(strange):
            first = int(strange[0])
            raise UserError(
                f"the character {text[first]!r} (position {first}) is not among the {self.vocab_size} that this "
                f"vocabulary knows: {self.characters!r}"
            )
        return numbers

    def decode(self, tokens: Sequence[int]) -> str:
        """One character a token."""
        return "".join(self.characters[int(one)] for one in tokens)

    def byte_lengths(self) -> NDArray[np.int64]:
        """1 to 4 a character."""
        return np.array([len(one.encode("utf-8", errors="surrogatepass")) for one in self.characters])

    def to_dict(self) -> dict[str, Any]:
        """The characters."""
        return {"kind": "characters", "characters": self.characters}


class ByteTokenizer(Tokenizer):
    """One token a byte of UTF-8: any text at all, with 256 tokens."""

    @property
    def vocab_size(self) -> int:
        """256."""
        return 256

    def encode(self, text: str) -> NDArray[np.int64]:
        """(bytes,) token numbers."""
        return np.frombuffer(text.encode("utf-8", errors="surrogatepass"), dtype=np.uint8).astype(np.int64)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text; what is not UTF-8 becomes U+FFFD."""
        return bytes(int(one) for one in tokens).decode("utf-8", errors="replace")

    def byte_lengths(self) -> NDArray[np.int64]:
        """1 each."""
        return np.ones(256, dtype=np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Nothing but its kind."""
        return {"kind": "bytes"}


class LibraryTokenizer(Tokenizer):
    """A tokenizer of the `tokenizers` library: words, or byte-level BPE."""

    def __init__(self, kind: str, tokenizer: Any) -> None:
        self.kind, self._tokenizer = kind, tokenizer
        self.between = " " if kind == "words" else ""

    @property
    def vocab_size(self) -> int:
        """Tokens, special ones included."""
        size: int = self._tokenizer.get_vocab_size()
        return size

    def encode(self, text: str) -> NDArray[np.int64]:
        """(tokens,) token numbers; a word outside the vocabulary is the unknown one."""
        return np.array(self._tokenizer.encode(text).ids, dtype=np.int64)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text; for words, joined by spaces."""
        text: str = self._tokenizer.decode([int(one) for one in tokens], skip_special_tokens=False)
        return text

    def byte_lengths(self) -> NDArray[np.int64] | None:
        """For byte-level BPE, whose tokens are written with a character for each byte. Words leave out blanks."""
        if self.kind == "words":
            return None
        return np.array([len(self._tokenizer.id_to_token(one)) for one in range(self.vocab_size)])

    def to_dict(self) -> dict[str, Any]:
        """The library's own JSON."""
        return {"kind": self.kind, "tokenizer": json.loads(self._tokenizer.to_str())}


def make_tokenizer(kind: str, text: str, vocab_size: int) -> Tokenizer:
    """A tokenizer for `text`: "characters", "bytes" (256 tokens), "words" or "bpe" (at most `vocab_size` tokens)."""
    if kind == "characters":
        return CharacterTokenizer(text)
    if kind == "bytes":
        return ByteTokenizer()
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers, trainers

    settings: dict[str, Any] = {"vocab_size": vocab_size, "show_progress": False}
    if kind == "words":
        library = Library(models.WordLevel(unk_token=UNKNOWN))
        library.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer: Any = trainers.WordLevelTrainer(special_tokens=[UNKNOWN], **settings)
    else:
        library = Library(models.BPE())
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        library.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(initial_alphabet=sorted(alphabet), **settings)
    library.train_from_iterator(text.splitlines(keepends=True), trainer)
    return LibraryTokenizer(kind, library)


def tokenizer_from_dict(values: dict[str, Any]) -> Tokenizer:
    """The tokenizer that `to_dict` described."""
    if values["kind"] == "characters":
        return CharacterTokenizer(values["characters"])
    if values["kind"] == "bytes":
        return ByteTokenizer()
    from tokenizers import Tokenizer as Library

    return LibraryTokenizer(values["kind"], Library.from_str(json.dumps(values["tokenizer"])))


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
