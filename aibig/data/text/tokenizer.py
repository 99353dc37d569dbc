"""Text to token ids and back: characters, bytes, words, byte-level BPE, or a tokenizer.json. Knows no model.

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
from aibig.files import read_json, write_text

UNKNOWN_TOKEN = "<unk>"
UNKNOWN_CHARACTER = "\ufffd"  # Unicode's replacement character
EOS_TOKEN = "<|endoftext|>"  # GPT-2's
EOS_TOKENS = (EOS_TOKEN, "<|end_of_text|>", "</s>", "<eos>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "[SEP]")
MASK_TOKENS = ("[MASK]", "<mask>")
KINDS = ("characters", "bytes", "words", "bpe")

# How a text is split into pre-tokens, each of which has the same tokens wherever it stands. Unicode's whitespace is not
# quite Python's, which includes U+001C to U+001F.
WHITESPACE, NON_WHITESPACE = r"[^\S\x1c-\x1f]", r"[\S\x1c-\x1f]"
WORD_PATTERN = re.compile(f"{WHITESPACE}*+{NON_WHITESPACE}++|{WHITESPACE}++")
# GPT-2's pre-tokenizer, which the library calls ByteLevel, also separates letters, digits and punctuation, but for 's,
# 't and so on. Only ASCII is split so, and not where a character follows that may be of the same class.
LETTERS, DIGITS, PUNCTUATION, END = "[A-Za-z]", "[0-9]++", r"[!-/:-@\[-`{-~]++", r"(?![^\t-\r -~])"
GPT2_PATTERN = re.compile(
    f"{WHITESPACE}*+(?:{LETTERS}++{END}|{DIGITS}{END}|{PUNCTUATION}(?<!'){END}|{PUNCTUATION}{LETTERS}*+{END}"
    f"|{NON_WHITESPACE}++)|{WHITESPACE}++"
)
MAX_CACHED_PRETOKENS = 200_000  # nearly all frequent ones of a natural text; about 40 MB


class Tokenizer(ABC):
    """Text to token ids and back.

    Attributes:
        eos_token_id: the token that separates documents, if there is one.
        mask_token_id: the token that replaces masked ones, if there is one.
        token_separator: what stands between the texts of two tokens.
    """

    eos_token_id: int | None = None
    mask_token_id: int | None = None
    token_separator = ""

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of token ids."""

    @abstractmethod
    def encode(self, text: str) -> NDArray[np.int64]:
        """The token ids of a text, (tokens,), without special tokens around it.

        Args:
            text: to encode.

        Raises:
            UserError: the vocabulary can't express the text.
        """

    def encode_with_special_tokens(self, text: str) -> NDArray[np.int64]:
        """As `encode`, with the special tokens that the tokenizer puts around a text, if any.

        Args:
            text: to encode.
        """
        return self.encode(text)

    def encode_batch(self, texts: list[str]) -> list[NDArray[np.int64]]:
        """As `encode`, of each text.

        Args:
            texts: to encode.
        """
        return [self.encode(text) for text in texts]

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """The text of token ids.

        Args:
            tokens: ids.
        """

    @abstractmethod
    def byte_lengths(self) -> NDArray[np.int64] | None:
        """UTF-8 bytes of the text of each token, (vocab_size,); None if tokens do not spell out the whole text."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain values from which `tokenizer_from_dict` makes the same tokenizer."""

    def save(self, path: str | Path) -> None:
        """Write a file that `load_tokenizer` reads.

        Args:
            path: of the file.
        """
        write_text(path, json.dumps(self.to_dict(), ensure_ascii=False))

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the vocabulary and the rules."""
        return hashlib.blake2b(json.dumps(self.to_dict(), sort_keys=True).encode(), digest_size=16).hexdigest()


class CharacterTokenizer(Tokenizer):
    """One token per character; ids follow the order of code points.

    Args:
        characters: of the vocabulary; if U+FFFD is among them, it stands for each character that is not.
    """

    def __init__(self, characters: str) -> None:
        self.characters = "".join(sorted(set(characters)))
        self._code_points = _code_points(self.characters)

    @property
    def vocab_size(self) -> int:
        """Number of different characters."""
        return len(self.characters)

    def encode(self, text: str) -> NDArray[np.int64]:
        """One id per character."""
        code_points = _code_points(text)
        tokens = np.searchsorted(self._code_points, code_points).clip(max=len(self._code_points) - 1)
        unknown = np.flatnonzero(self._code_points[tokens] != code_points)
        if len(unknown) and UNKNOWN_CHARACTER in self.characters:
            tokens[unknown] = self.characters.index(UNKNOWN_CHARACTER)
        elif len(unknown):
            first = int(unknown[0])
            raise UserError(
                f"the character {text[first]!r} (position {first}) is not among the {self.vocab_size} of this "
                f"vocabulary: {self.characters!r}"
            )
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """One character per token."""
        return "".join(self.characters[int(token)] for token in tokens)

    def byte_lengths(self) -> NDArray[np.int64]:
        """1 to 4."""
        return np.array([len(character.encode("utf-8", errors="surrogatepass")) for character in self.characters])

    def to_dict(self) -> dict[str, Any]:
        """The characters."""
        return {"kind": "characters", "characters": self.characters}


class ByteTokenizer(Tokenizer):
    """One token per byte of UTF-8: any text, with 256 tokens."""

    @property
    def vocab_size(self) -> int:
        """256."""
        return 256

    def encode(self, text: str) -> NDArray[np.int64]:
        """One id per byte."""
        return np.frombuffer(text.encode("utf-8", errors="surrogatepass"), dtype=np.uint8).astype(np.int64)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text; bytes that are not UTF-8 become U+FFFD."""
        return bytes(int(token) for token in tokens).decode("utf-8", errors="replace")

    def byte_lengths(self) -> NDArray[np.int64]:
        """1 each."""
        return np.ones(256, dtype=np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Nothing but its kind."""
        return {"kind": "bytes"}


class LibraryTokenizer(Tokenizer):
    """A tokenizer of the `tokenizers` library.

    `encode` adds no special tokens; those that are written in a text are recognised.

    Args:
        kind: "words", "bpe" (byte-level), or "library" for any other.
        tokenizer: the library's own object; its padding and truncation are switched off.
    """

    def __init__(self, kind: str, tokenizer: Any) -> None:
        self.kind, self._tokenizer = kind, tokenizer
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.token_separator = " " if kind == "words" else ""
        self._adds_special_tokens = len(tokenizer.encode("").ids) > 0
        self._json: dict[str, Any] = json.loads(tokenizer.to_str())
        special_tokens = [token["content"] for token in self._json["added_tokens"] if token["special"]]
        self.eos_token_id, self.mask_token_id = (
            next((tokenizer.token_to_id(token) for token in candidates if token in special_tokens), None)
            for candidates in (EOS_TOKENS, MASK_TOKENS)
        )
        self._pretokenize = _pretokenizer(self._json)
        self._cache: dict[str, tuple[int, ...]] = {}  # pre-token -> ids

    @cached_property
    def vocab_size(self) -> int:
        """One more than the highest id, that of a special token included: not every id need be used."""
        return max(self._tokenizer.get_vocab().values(), default=-1) + 1

    def encode(self, text: str) -> NDArray[np.int64]:
        """(tokens,); a word outside the vocabulary becomes the unknown token, if there is one."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: list[str]) -> list[NDArray[np.int64]]:
        """As `encode`, on all cores. Where texts split into pre-tokens, each of these is encoded once and cached."""
        if self._pretokenize is None:
            return [np.array(tokens, dtype=np.int64) for tokens in self._encode(texts)]
        pretokenized = [self._pretokenize(text) for text in texts]
        new = [pretoken for pretoken in set().union(*pretokenized) if pretoken not in self._cache]
        self._cache.update(zip(new, self._encode(new), strict=True))
        cached = (chain.from_iterable(map(self._cache.__getitem__, pretokens)) for pretokens in pretokenized)
        encoded = [np.fromiter(tokens, dtype=np.int64) for tokens in cached]
        if len(self._cache) > MAX_CACHED_PRETOKENS:
            self._cache.clear()
        return encoded

    def _encode(self, texts: list[str]) -> list[tuple[int, ...]]:
        try:
            encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        except Exception as error:  # the library has no class of its own
            raise UserError(f"the tokenizer can't express the text: {_first_line(error)}") from None
        return [tuple(encoding.ids) for encoding in encodings]

    def encode_with_special_tokens(self, text: str) -> NDArray[np.int64]:
        """With BERT's [CLS] and [SEP], or what else a tokenizer.json puts around a text."""
        if not self._adds_special_tokens:
            return self.encode(text)
        return np.array(self._tokenizer.encode(text).ids, dtype=np.int64)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text, special tokens included; words are joined by spaces."""
        text: str = self._tokenizer.decode([int(token) for token in tokens], skip_special_tokens=False)
        return text

    def byte_lengths(self) -> NDArray[np.int64] | None:
        """Only for byte-level BPE, whose tokens are written with a character per byte; words leave out whitespace.

        Special tokens have length 0. The text is that after normalization, which must be NFC or none.
        """
        normalizers = {_type(self._json["normalizer"]), "NFC", ""}
        if "ByteLevel" not in _types(self._json["decoder"]) or normalizers != {"NFC", ""}:
            return None
        lengths = np.zeros(self.vocab_size, dtype=np.int64)
        for token, token_id in self._tokenizer.get_vocab(with_added_tokens=False).items():
            lengths[token_id] = len(token)
        for added in self._json["added_tokens"]:
            lengths[added["id"]] = 0 if added["special"] else len(added["content"].encode())
        return lengths

    def to_dict(self) -> dict[str, Any]:
        """The library's own JSON."""
        return {"kind": self.kind, "tokenizer": self._json}

    def save(self, path: str | Path) -> None:
        """Write a tokenizer.json that other programs read."""
        self._tokenizer.save(str(path))


def make_tokenizer(
    kind: str, texts: str | Iterable[str], vocab_size: int, *, with_eos_token: bool = False
) -> Tokenizer:
    """Train a tokenizer on a text, or load one.

    Args:
        kind: "characters", "bytes", "words" or "bpe"; or the path of a saved tokenizer, see `load_tokenizer`.
        texts: a text, or its chunks, which are read once.
        vocab_size: upper limit of the tokens of "words" and "bpe".
        with_eos_token: "bpe" gets an end-of-text token, to separate documents.

    Raises:
        UserError: there is no such kind, or the file is no tokenizer.
    """
    chunks = [texts] if isinstance(texts, str) else texts
    if kind == "characters":
        return CharacterTokenizer("".join({character for chunk in chunks for character in {*chunk}}))
    if kind == "bytes":
        return ByteTokenizer()
    if kind not in KINDS:
        return load_tokenizer(kind)
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers, trainers

    settings: dict[str, Any] = {"vocab_size": vocab_size, "show_progress": False}
    if kind == "words":
        library = Library(models.WordLevel(unk_token=UNKNOWN_TOKEN))
        library.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer: Any = trainers.WordLevelTrainer(special_tokens=[UNKNOWN_TOKEN], **settings)
    else:
        library = Library(models.BPE())
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        library.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        special_tokens = [EOS_TOKEN] if with_eos_token else []
        trainer = trainers.BpeTrainer(initial_alphabet=sorted(alphabet), special_tokens=special_tokens, **settings)
    library.train_from_iterator((line for chunk in chunks for line in chunk.splitlines(keepends=True)), trainer)
    return LibraryTokenizer(kind, library)


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer in a file.

    Args:
        path: of a tokenizer.json of the `tokenizers` library, of what `save` wrote, or of a model.json of ours.

    Raises:
        UserError: it is none of these.
    """
    file = Path(path)
    if not file.exists():
        hint = nearest(str(path), KINDS) or f"; kinds are: {', '.join(KINDS)}"
        raise UserError(f"tokenizer {str(path)!r} is neither a kind nor a file{hint}")
    try:
        values = read_json(file)
        values = values if "kind" in values else values.get("tokenizer", values)
        return tokenizer_from_dict(values if "kind" in values else {"kind": "library", "tokenizer": values})
    except Exception as error:  # the library has no class of its own
        raise UserError(f"{file}: is no tokenizer.json: {_first_line(error)}") from None


def tokenizer_from_dict(values: dict[str, Any]) -> Tokenizer:
    """The tokenizer that was saved as plain values.

    Args:
        values: from `Tokenizer.to_dict`.
    """
    if values["kind"] == "characters":
        return CharacterTokenizer(values["characters"])
    if values["kind"] == "bytes":
        return ByteTokenizer()
    from tokenizers import Tokenizer as Library

    return LibraryTokenizer(values["kind"], Library.from_str(json.dumps(values["tokenizer"])))


def _pretokenizer(tokenizer_json: dict[str, Any]) -> Callable[[str], list[str]] | None:
    """Splits a text into pre-tokens, for words and for GPT-2's pre-tokenizer; None for others."""
    pre_tokenizer, added_tokens = tokenizer_json["pre_tokenizer"] or {}, tokenizer_json["added_tokens"]
    is_gpt2 = (
        _type(pre_tokenizer) == "ByteLevel" and pre_tokenizer["use_regex"] and not pre_tokenizer["add_prefix_space"]
    )
    are_plain = not any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in added_tokens)
    are_alike = len({token["normalized"] for token in added_tokens}) <= 1  # else one kind is matched before the other
    is_known = is_gpt2 or _type(pre_tokenizer) == "Whitespace"
    if not (is_known and are_plain and are_alike) or tokenizer_json["normalizer"] is not None:
        return None
    pattern = GPT2_PATTERN if is_gpt2 else WORD_PATTERN
    longest_first = sorted((token["content"] for token in added_tokens), key=len, reverse=True)
    if not longest_first:
        return pattern.findall
    added_pattern = re.compile(f"({'|'.join(map(re.escape, longest_first))})")

    def pretokenize(text: str) -> list[str]:
        pretokens: list[str] = []
        for number, part in enumerate(added_pattern.split(text)):  # every second is an added token
            pretokens += [part] if number % 2 else pattern.findall(part)
        return pretokens

    return pretokenize


def _types(part: dict[str, Any] | None) -> set[str]:
    """The types of a part of a tokenizer, and of the parts that it is a sequence of."""
    inner = [item for key in ("decoders", "pretokenizers") for item in (part or {}).get(key, [])]
    return {_type(part), *map(_type, inner)}


def _type(part: dict[str, Any] | None) -> str:
    return str((part or {}).get("type", ""))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
