"""Large texts tokenized once, into files that are memory-mapped. Knows no windows.

The folder of a text, `.aibig/NAME-KEY/` beside it, holds the token ids as uint16 or uint32, the document boundaries as
int64, and a manifest, written last, that names both files and what they were made of. Only files that a manifest names
are read, so a process that is killed leaves nothing but files that the next one deletes.
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

from aibig.data.text.documents import Chunk, Documents, TextFiles
from aibig.data.text.tokenizer import KINDS, Tokenizer, load_tokenizer, tokenizer_from_dict
from aibig.data.text.tokens import TokenizedText, encode_chunks, tokenize_in_memory, tokenizer_for
from aibig.errors import UserError
from aibig.files import flush, read_json, write_text

FORMAT = 1
MANIFEST = "manifest.json"
MIN_BYTES = 8_000_000  # of text; less is tokenized in memory


def tokenize(
    documents: Documents, tokenizer: str | Tokenizer, vocab_size: int = 10_000, cache: str | None = None
) -> TokenizedText:
    """The token ids of all documents, with end-of-text tokens between them, or blank lines if the tokenizer has none.

    Files of `MIN_BYTES` and more are tokenized once; the result is reused until they or the tokenizer change.

    Args:
        documents: to tokenize.
        tokenizer: one that exists, or the `kind` of `make_tokenizer`.
        vocab_size: see `make_tokenizer`.
        cache: folder for the result; by default `.aibig` beside the files, or else the user's cache folder.

    Raises:
        UserError: something can't be read, expressed by the vocabulary, or written.
    """
    if isinstance(tokenizer, str) and tokenizer not in KINDS:
        tokenizer = load_tokenizer(tokenizer)
    if not isinstance(documents, TextFiles) or documents.size < MIN_BYTES:
        return tokenize_in_memory(documents, tokenizer, vocab_size)
    files = TokenFiles(documents, tokenizer, vocab_size)
    folders = [base / files.name for base in ([Path(cache)] if cache else _default_folders(documents.path))]
    for folder in folders:
        if (text := files.load(folder)) is not None:
            return text
    folder = _first_writable(folders)
    with _one_process_at_a_time(folder):
        return files.load(folder) or files.write(folder)  # another process may have written them meanwhile


class TokenFiles:
    """The token ids of documents, as files in a folder. A tokenizer that is made from the text is saved with them.

    Args:
        documents: to tokenize.
        tokenizer: one that exists, or the `kind` of `make_tokenizer`.
        vocab_size: see `make_tokenizer`.
    """

    def __init__(self, documents: TextFiles, tokenizer: str | Tokenizer, vocab_size: int) -> None:
        self.documents, self.tokenizer, self.vocab_size = documents, tokenizer, vocab_size
        is_offline = isinstance(tokenizer, Tokenizer) or tokenizer in ("characters", "bytes")
        self.settings = {  # files that were written with others are of no use
            "format": FORMAT,
            "field": documents.field,
            "tokenizer": tokenizer.fingerprint if isinstance(tokenizer, Tokenizer) else tokenizer,
            "vocab_size": None if is_offline else vocab_size,
        }
        key = json.dumps([str(documents.path.resolve()), self.settings])
        self.name = f"{documents.path.resolve().name}-{hashlib.blake2b(key.encode(), digest_size=6).hexdigest()}"

    def load(self, folder: Path) -> TokenizedText | None:
        """What an earlier process wrote; None if there is nothing, or the text has changed since.

        Args:
            folder: of the files.
        """
        try:
            manifest = read_json(folder / MANIFEST)
            tokens, boundaries = (folder / manifest["files"][name] for name in ("tokens", "boundaries"))
            is_complete = [tokens.stat().st_size, boundaries.stat().st_size] == manifest["bytes"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not is_complete or manifest["settings"] != self.settings or not self._is_unchanged(folder, manifest):
            return None
        return TokenizedText(
            _memory_map(tokens, manifest["dtype"]),
            _memory_map(boundaries, "int64"),
            tokenizer_from_dict(manifest["tokenizer"]) if isinstance(self.tokenizer, str) else self.tokenizer,
            folder,
            manifest["digest"],
        )

    def _is_unchanged(self, folder: Path, manifest: dict[str, Any]) -> bool:
        """By size and modification time; if only times differ, by content."""
        before, now = manifest["file_stats"], [[*stat] for stat in self.documents.file_stats()]
        if before == now:
            return True
        sizes_differ = [stat[:2] for stat in before] != [stat[:2] for stat in now]
        if sizes_differ or self.documents.digest() != manifest["text_digest"]:
            return False
        with suppress(OSError):  # in a folder that is read-only, the content is compared each time
            write_text(folder / MANIFEST, json.dumps({**manifest, "file_stats": now}, ensure_ascii=False))
        return True

    def write(self, folder: Path) -> TokenizedText:
        """Tokenize the documents.

        Args:
            folder: for the files.

        Raises:
            UserError: they can't be written, and nothing is left behind; or the text changed meanwhile.
        """
        suffix = secrets.token_hex(4)
        paths = {name: folder / f"{name}-{suffix}.bin" for name in ("tokens", "boundaries")}
        try:
            manifest = self._write_files(paths)
            manifest["files"] = {name: path.name for name, path in paths.items()}
            write_text(folder / MANIFEST, json.dumps(manifest, ensure_ascii=False))
        except BaseException as error:
            for path in paths.values():
                path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                reason = f"the tokens can't be written: {error.strerror or error}"
                raise UserError(f"{folder}: {reason}; free some space, or name another folder in data.cache") from None
            raise
        for old in {*folder.glob("*.bin")} - {*paths.values()}:
            with suppress(OSError):  # Windows keeps a file that is memory-mapped
                old.unlink()
        text = self.load(folder)
        if text is None:
            raise UserError(f"{self.documents.path}: changed while it was read; start again when it is complete")
        return text

    def _write_files(self, paths: dict[str, Path]) -> dict[str, Any]:
        file_stats, text_digest = self.documents.file_stats(), self.documents.digest()
        tokenizer = tokenizer_for(
            self._chunks("vocabulary"), self.tokenizer, self.vocab_size, multiple=self.documents.multiple
        )
        dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
        digest = hashlib.blake2b(digest_size=16)
        with paths["tokens"].open("wb") as tokens_file, paths["boundaries"].open("wb") as boundaries_file:
            for tokens, boundaries in encode_chunks(self._chunks("tokens"), tokenizer):
                narrow = tokens.astype(dtype)
                digest.update(narrow.data)
                tokens_file.write(narrow.data)
                boundaries_file.write(boundaries.data)
            for file in (tokens_file, boundaries_file):
                flush(file)
        return {
            "settings": self.settings,
            "file_stats": file_stats,
            "text_digest": text_digest,
            "dtype": dtype.__name__,
            "digest": digest.hexdigest(),
            "bytes": [path.stat().st_size for path in paths.values()],
            "tokenizer": tokenizer.to_dict(),
        }

    def _chunks(self, purpose: str) -> Iterator[Chunk]:
        """All of the text, with a progress bar in a terminal."""
        size, words = self.documents.size, f"{self.documents.path.name}: {purpose}"
        with tqdm(total=size, desc=words, unit="B", unit_scale=True, disable=None, file=sys.stderr) as bar:
            for chunk in self.documents.chunks():
                yield chunk
                bar.update(chunk.bytes_read - bar.n)


def _memory_map(path: Path, dtype: str) -> Tensor:
    if not path.stat().st_size:
        return torch.zeros(0, dtype=getattr(torch, dtype))
    return torch.from_numpy(np.memmap(path, dtype=dtype, mode="c"))  # "c": torch wants memory that can be written to


def _default_folders(path: Path) -> list[Path]:
    """Beside the text, and the user's cache folder."""
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
    """Hold a lock file, where the system has locks; a process that is killed releases it."""
    with (folder / "lock").open("w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except (ImportError, OSError):  # Windows, some network disks: then each writes files of its own
            pass
        yield
