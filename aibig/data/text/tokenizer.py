"""Text to token numbers and back: characters, bytes, words, byte-level BPE, or a tokenizer.json. Knows no model.

A vocabulary is made from the text of a run, or loaded, and saved with its model, as plain JSON.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aibig.errors import UserError, nearest

UNKNOWN = "<unk>"
UNKNOWN_CHARACTER = "\ufffd"  # Unicode's own for what can't be shown
END_OF_TEXT = "<|endoftext|>"  # GPT-2's
BLANKS = ("[MASK]", "<mask>")
ENDS_OF_TEXT = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "[SEP]")
KINDS = ("characters", "bytes", "words", "bpe")

# How a text can be cut without changing its tokens, however often a piece comes. Unicode's blanks are not quite
# Python's, which have U+001C to U+001F among them.
BLANK, INK = r"[^\S\x1c-\x1f]", r"[\S\x1c-\x1f]"
AT_BLANKS = re.compile(f"{BLANK}*+{INK}++|{BLANK}++")  # for words
# GPT-2's pre-tokenizer, which the library calls ByteLevel, also parts letters, digits and other signs, but for 's, 't
# and so on. Only ASCII is cut so, and not where something else follows that may be of the same kind.
LETTERS, DIGITS, SIGNS, ENDS = "[A-Za-z]", "[0-9]++", r"[!-/:-@\[-`{-~]++", r"(?![^\t-\r -~])"
AS_GPT2 = re.compile(
    f"{BLANK}*+(?:{LETTERS}++{ENDS}|{DIGITS}{ENDS}|{SIGNS}(?<!'){ENDS}|{SIGNS}{LETTERS}*+{ENDS}|{INK}++)|{BLANK}++"
)
PIECES_REMEMBERED = 200_000  # of a natural text, nearly all that come often; about 40 MB


class Tokenizer(ABC):
    """Text to token numbers and back."""

    between = ""  # what stands between the texts of two tokens
    end_of_text: int | None = None  # the token that stands between documents, if there is one
    blank: int | None = None  # the token that stands for a hidden one, if there is one

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """How many different tokens there are."""

    @abstractmethod
    def encode(self, text: str) -> NDArray[np.int64]:
        """The token numbers of `text`. Raises UserError for text that the vocabulary can't express."""

    def encode_whole(self, text: str) -> NDArray[np.int64]:
        """As `encode`, with the special tokens that belong around a text that stands alone, if there are any."""
        return self.encode(text)

    def encode_all(self, texts: list[str]) -> list[NDArray[np.int64]]:
        """The token numbers of each text."""
        return [self.encode(text) for text in texts]

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """The text of token numbers."""

    @abstractmethod
    def byte_lengths(self) -> NDArray[np.int64] | None:
        """How many UTF-8 bytes of text each token stands for (vocab_size,); None if the tokens do not say it all."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain values that `tokenizer_from_dict` makes the same tokenizer of."""

    def save(self, path: str | Path) -> None:
        """Write what `load_tokenizer` reads."""
        Path(path).write_text(json.dumps(self.to_dict(), ensure_ascii=False), encoding="utf-8")

    @cached_property
    def fingerprint(self) -> str:
        """A short text that tells tokenizers apart."""
        return hashlib.blake2b(json.dumps(self.to_dict(), sort_keys=True).encode(), digest_size=16).hexdigest()


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
    """A tokenizer of the `tokenizers` library: words, byte-level BPE, or any other ("library").

    `encode` puts no special tokens around a text; those that are written in it are special. end_of_text is the first of
    `ENDS_OF_TEXT` that is among its special tokens.
    """

    def __init__(self, kind: str, tokenizer: Any) -> None:
        self.kind, self._tokenizer = kind, tokenizer
        tokenizer.no_padding()  # some files ask for both
        tokenizer.no_truncation()
        self.between = " " if kind == "words" else ""
        self._surrounds = len(tokenizer.encode("").ids) > 0
        self._described: dict[str, Any] = json.loads(tokenizer.to_str())
        special = [one["content"] for one in self._described["added_tokens"] if one["special"]]
        names = [one for one in ENDS_OF_TEXT if one in special]
        self.end_of_text = tokenizer.token_to_id(names[0]) if names else None
        self.blank = next((tokenizer.token_to_id(one) for one in BLANKS if one in special), None)
        self._cut = _way_to_cut(self._described)
        self._remembered: dict[str, tuple[int, ...]] = {}

    @cached_property
    def vocab_size(self) -> int:
        """One more than the highest number, special tokens included: numbers may be left out."""
        return max(self._tokenizer.get_vocab().values(), default=-1) + 1

    def encode(self, text: str) -> NDArray[np.int64]:
        """(tokens,) token numbers; a word outside the vocabulary is the unknown one, where there is one."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: list[str]) -> list[NDArray[np.int64]]:
        """As `encode`, on all cores. Where texts can be cut, each piece is encoded once and then looked up."""
        if self._cut is None:
            return [np.array(tokens, dtype=np.int64) for tokens in self._encode(texts)]
        cut = [self._cut(text) for text in texts]
        new = [piece for piece in set().union(*cut) if piece not in self._remembered]
        self._remembered.update(zip(new, self._encode(new), strict=True))
        found = (chain.from_iterable(map(self._remembered.__getitem__, pieces)) for pieces in cut)
        tokens = [np.fromiter(one, dtype=np.int64) for one in found]
        if len(self._remembered) > PIECES_REMEMBERED:
            self._remembered.clear()
        return tokens

    def _encode(self, texts: list[str]) -> list[tuple[int, ...]]:
        try:
            return [tuple(one.ids) for one in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        except Exception as error:  # the library has no class of its own
            raise UserError(f"the tokenizer can't express the text: {_first_line(error)}") from None

    def encode_whole(self, text: str) -> NDArray[np.int64]:
        """With BERT's [CLS] and [SEP], or what else a tokenizer.json puts around a text."""
        if not self._surrounds:
            return self.encode(text)
        return np.array(self._tokenizer.encode(text).ids, dtype=np.int64)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text; for words, joined by spaces. Special tokens are written out."""
        text: str = self._tokenizer.decode([int(one) for one in tokens], skip_special_tokens=False)
        return text

    def byte_lengths(self) -> NDArray[np.int64] | None:
        """For byte-level BPE, whose tokens are written with a character for each byte. Words leave out blanks.

        Special tokens stand for no text. The text is as the tokenizer normalizes it, which may be by NFC alone.
        """
        types = {_type(self._described["normalizer"]), "NFC", ""}
        if "ByteLevel" not in _types(self._described["decoder"]) or types != {"NFC", ""}:
            return None
        lengths = np.zeros(self.vocab_size, dtype=np.int64)
        for token, number in self._tokenizer.get_vocab(with_added_tokens=False).items():
            lengths[number] = len(token)
        for added in self._described["added_tokens"]:
            lengths[added["id"]] = 0 if added["special"] else len(added["content"].encode())
        return lengths

    def to_dict(self) -> dict[str, Any]:
        """The library's own JSON."""
        return {"kind": self.kind, "tokenizer": self._described}

    def save(self, path: str | Path) -> None:
        """Write a tokenizer.json as other programs read it."""
        self._tokenizer.save(str(path))


def make_tokenizer(kind: str, texts: str | Iterable[str], vocab_size: int, *, end_of_text: bool = False) -> Tokenizer:
    """A tokenizer for a text, or for the pieces of one, which are read once.

    kind: "characters", "bytes" (256 tokens), "words" or "bpe" (at most `vocab_size` tokens), or the path of a
    tokenizer that was saved, a tokenizer.json. end_of_text: BPE gets a token that stands between documents.

    Raises UserError for another kind, or a file that is no tokenizer.
    """
    pieces = [texts] if isinstance(texts, str) else texts
    if kind == "characters":
        return CharacterTokenizer("".join({one for piece in pieces for one in {*piece}}))
    if kind == "bytes":
        return ByteTokenizer()
    if kind not in KINDS:
        return load_tokenizer(kind)
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
        special = [END_OF_TEXT] if end_of_text else []
        trainer = trainers.BpeTrainer(initial_alphabet=sorted(alphabet), special_tokens=special, **settings)
    library.train_from_iterator((line for piece in pieces for line in piece.splitlines(keepends=True)), trainer)
    return LibraryTokenizer(kind, library)


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer in a file: any tokenizer.json of the `tokenizers` library, what `save` wrote, or a saved language
    model's model.json.

    Raises UserError for what is none of these.
    """
    file = Path(path)
    if not file.exists():
        hint = nearest(str(path), KINDS) or f"; kinds are: {', '.join(KINDS)}"
        raise UserError(f"tokenizer {str(path)!r} is neither a kind nor a file{hint}")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        values = values if "kind" in values else values.get("tokenizer", values)
        return tokenizer_from_dict(values if "kind" in values else {"kind": "library", "tokenizer": values})
    except Exception as error:  # the library has no class of its own
        raise UserError(f"{file}: is no tokenizer.json: {_first_line(error)}") from None


def tokenizer_from_dict(values: dict[str, Any]) -> Tokenizer:
    """The tokenizer that `to_dict` described."""
    if values["kind"] == "characters":
        return CharacterTokenizer(values["characters"])
    if values["kind"] == "bytes":
        return ByteTokenizer()
    from tokenizers import Tokenizer as Library

    return LibraryTokenizer(values["kind"], Library.from_str(json.dumps(values["tokenizer"])))


def _way_to_cut(described: dict[str, Any]) -> Callable[[str], list[str]] | None:
    """What cuts a text into pieces whose tokens are its own: for words, and GPT-2's pre-tokenizer; else None."""
    before, added = described["pre_tokenizer"] or {}, described["added_tokens"]
    gpt2 = _type(before) == "ByteLevel" and before["use_regex"] and not before["add_prefix_space"]
    plain = not any(one["lstrip"] or one["rstrip"] or one["single_word"] for one in added)
    alike = len({one["normalized"] for one in added}) <= 1  # else one kind goes before the other
    if not (gpt2 or _type(before) == "Whitespace") or described["normalizer"] is not None or not (plain and alike):
        return None
    pattern = AS_GPT2 if gpt2 else AT_BLANKS
    longest_first = sorted((one["content"] for one in added), key=len, reverse=True)
    if not longest_first:
        return pattern.findall
    whole = re.compile(f"({'|'.join(re.escape(one) for one in longest_first)})")

    def cut(text: str) -> list[str]:
        parts = whole.split(text)  # every second is an added token
        return [
            piece for number, part in enumerate(parts) for piece in ([part] if number % 2 else pattern.findall(part))
        ]

    return cut


def _types(part: dict[str, Any] | None) -> set[str]:
    """The types of a tokenizer's part, and of what it is a sequence of."""
    inner = [one for name in ("decoders", "pretokenizers") for one in (part or {}).get(name, [])]
    return {_type(part), *(_type(one) for one in inner)}


def _type(part: dict[str, Any] | None) -> str:
    return str((part or {}).get("type", ""))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
