"""Large texts tokenized once for all, into files that are mapped into memory. Knows no windows.

A text's folder, `.aibig/NAME-KEY/` beside it, holds the token numbers as uint16 or uint32, where documents begin as
int64, and a manifest, written last, that names both files and what they were made of. Only what a manifest names is
read, so a process that is killed leaves nothing but files that the next one deletes.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from aibig.data.text.documents import Documents, Piece, TextFiles
from aibig.data.text.tokenizer import KINDS, Tokenizer, load_tokenizer, tokenizer_from_dict
from aibig.data.text.tokens import TokenizedText, encode, tokenize_in_memory, tokenizer_for
from aibig.errors import UserError

FORMAT = 1
MANIFEST = "manifest.json"
IN_MEMORY = 8_000_000  # bytes of text below which nothing is written


def tokenize(
    documents: Documents, tokenizer: str | Tokenizer, vocab_size: int = 10_000, cache: str | None = None
) -> TokenizedText:
    """The tokens of all documents, end-of-text tokens between them, or blank lines where the tokenizer has none.

    tokenizer: one that is there, or what `make_tokenizer` takes beside vocab_size. Files of `IN_MEMORY` bytes and
    more are tokenized once, into a folder in `cache`, or else in `.aibig` beside them, or in the user's folder for
    such things; it serves until they or the tokenizer change.

    Raises UserError for what can't be read or expressed, and where there is no room to write.
    """
    if isinstance(tokenizer, str) and tokenizer not in KINDS:
        tokenizer = load_tokenizer(tokenizer)
    if not isinstance(documents, TextFiles) or documents.size < IN_MEMORY:
        return tokenize_in_memory(documents, tokenizer, vocab_size)
    shards = Shards(documents, tokenizer, vocab_size)
    folders = [base / shards.name for base in ([Path(cache)] if cache else _usual_places(documents.path))]
    for folder in folders:
        if (found := shards.find(folder)) is not None:
            return found
    folder = _first_writable(folders)
    with _one_process_at_a_time(folder):
        return shards.find(folder) or shards.write(folder)  # another process may have written them meanwhile


class Shards:
    """The token numbers of `documents`, as files in a folder.

    tokenizer, vocab_size: see `tokenize`. A tokenizer that is made of the text is kept with the numbers.
    """

    def __init__(self, documents: TextFiles, tokenizer: str | Tokenizer, vocab_size: int) -> None:
        self.documents, self.tokenizer, self.vocab_size = documents, tokenizer, vocab_size
        given = isinstance(tokenizer, Tokenizer)
        self.wanted = {  # what must be so for a folder to serve
            "format": FORMAT,
            "field": documents.field,
            "tokenizer": tokenizer.fingerprint if isinstance(tokenizer, Tokenizer) else tokenizer,
            "vocab_size": None if given or tokenizer in ("characters", "bytes") else vocab_size,
        }
        key = json.dumps([str(documents.path.resolve()), self.wanted])
        self.name = f"{documents.path.resolve().name}-{hashlib.blake2b(key.encode(), digest_size=6).hexdigest()}"

    def find(self, folder: Path) -> TokenizedText | None:
        """What an earlier process wrote, if the text is still what it was."""
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            tokens, borders = (folder / manifest["files"][name] for name in ("tokens", "borders"))
            whole = [tokens.stat().st_size, borders.stat().st_size] == manifest["bytes"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not whole or manifest["wanted"] != self.wanted or not self._is_unchanged(folder, manifest):
            return None
        return TokenizedText(
            _mapped(tokens, manifest["dtype"]),
            _mapped(borders, "int64"),
            tokenizer_from_dict(manifest["vocabulary"]) if isinstance(self.tokenizer, str) else self.tokenizer,
            folder,
            manifest["digest"],
        )

    def _is_unchanged(self, folder: Path, manifest: dict[str, Any]) -> bool:
        """By sizes and times; where times alone differ, by content."""
        before, now = manifest["stamps"], [[*one] for one in self.documents.stamps()]
        if before == now:
            return True
        if [one[:2] for one in before] != [one[:2] for one in now] or self.documents.digest() != manifest["content"]:
            return False
        with suppress(OSError):  # in someone else's folder the content is compared each time
            _write_manifest(folder, {**manifest, "stamps": now})
        return True

    def write(self, folder: Path) -> TokenizedText:
        """Tokenize. Raises UserError where there is no room, and then leaves nothing behind."""
        mark = secrets.token_hex(4)
        paths = {name: folder / f"{name}-{mark}.bin" for name in ("tokens", "borders")}
        try:
            manifest = self._write_files(paths)
            manifest["files"] = {name: path.name for name, path in paths.items()}
            _write_manifest(folder, manifest)
        except BaseException as error:
            for path in paths.values():
                path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                reason = f"the tokens can't be written: {error.strerror or error}"
                raise UserError(f"{folder}: {reason}; free some space, or name another folder in data.cache") from None
            raise
        for old in {*folder.glob("*.bin")} - {*paths.values()}:
            with suppress(OSError):  # Windows keeps a file that is mapped
                old.unlink()
        text = self.find(folder)
        if text is None:
            raise UserError(f"{self.documents.path}: changed while it was read; start again when it is complete")
        return text

    def _write_files(self, paths: dict[str, Path]) -> dict[str, Any]:
        stamps, content = self.documents.stamps(), self.documents.digest()
        made = tokenizer_for(
            self._pieces("vocabulary"), self.tokenizer, self.vocab_size, several=self.documents.several
        )
        dtype = np.uint16 if made.vocab_size <= 2**16 else np.uint32
        digest = hashlib.blake2b(digest_size=16)
        with paths["tokens"].open("wb") as tokens_file, paths["borders"].open("wb") as borders_file:
            for tokens, borders in encode(self._pieces("tokens"), made):
                numbers = tokens.astype(dtype)
                digest.update(numbers.data)
                tokens_file.write(numbers.data)
                borders_file.write(borders.data)
            for file in (tokens_file, borders_file):
                file.flush()
                os.fsync(file.fileno())
        return {
            "wanted": self.wanted,
            "stamps": stamps,
            "content": content,
            "dtype": dtype.__name__,
            "digest": digest.hexdigest(),
            "bytes": [path.stat().st_size for path in paths.values()],
            "vocabulary": made.to_dict(),
        }

    def _pieces(self, what: str) -> Iterator[Piece]:
        """All of the text, with a bar if a person watches."""
        size, words = self.documents.size, f"{self.documents.path.name}: {what}"
        with tqdm(total=size, desc=words, unit="B", unit_scale=True, disable=None, file=sys.stderr) as bar:
            for piece in self.documents.pieces():
                yield piece
                bar.update(piece.position - bar.n)


def _mapped(path: Path, dtype: str) -> Tensor:
    """The numbers of a file, read as they are used."""
    if not path.stat().st_size:
        return torch.zeros(0, dtype=getattr(torch, dtype))
    return torch.from_numpy(np.memmap(path, dtype=dtype, mode="c"))  # "c": as torch wants it, it could be written to


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """All at once, replacing the one before."""
    temporary = folder / f".{MANIFEST}-{secrets.token_hex(4)}"
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(manifest, file, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / MANIFEST)
    finally:
        temporary.unlink(missing_ok=True)


def _usual_places(path: Path) -> list[Path]:
    """Beside the text, and the user's folder for what can be made again."""
    home = Path.home()
    user = {"darwin": home / "Library/Caches", "win32": Path(os.environ.get("LOCALAPPDATA", home))}.get(
        sys.platform, Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    )
    return [path.resolve().parent / ".aibig", user / "aibig"]


def _first_writable(folders: list[Path]) -> Path:
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            reason = "Permission denied"
    raise UserError(f"{folders[-1]}: the tokens can't be written: {reason}; name another folder in data.cache")


@contextmanager
def _one_process_at_a_time(folder: Path) -> Iterator[None]:
    """Where the system has locks; one that is killed lets go."""
    with (folder / "lock").open("w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except (ImportError, OSError):  # Windows, some network disks: then each writes files of its own
            pass
        yield
