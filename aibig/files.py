"""Files read as UTF-8, and written whole or not at all. Knows nothing of what is in them."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from pathlib import Path
from typing import IO, Any

from aibig.errors import UserError


def read_utf8(path: str | Path, *, may_be_empty: bool = False) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Args:
        path: the file.
        may_be_empty: accept a file without text, or of blanks alone.

    Raises:
        UserError: the file can't be read, is not UTF-8 (which byte is named), or is empty.
    """
    try:
        text = Path(path).read_text(encoding="utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise not_utf8(path, error.start) from None
    except OSError as error:
        raise unreadable(path, error) from None
    if not may_be_empty and not text.strip():
        raise UserError(f"{path}: is empty; give a file with text in it")
    return text


def not_utf8(place: str | Path, byte: int, within: str = "") -> UserError:
    """The error for a file, or a line of it, that is not UTF-8.

    Args:
        place: the file, or "file:line".
        byte: number of the first byte that can't be decoded, from 0.
        within: what the bytes are counted in where that is not clear, such as " of the line".
    """
    return UserError(f"{place}: is not UTF-8 text (byte {byte}{within}); convert it to UTF-8")


def unreadable(path: str | Path, error: OSError) -> UserError:
    """The error for a file that the system does not let us read.

    Args:
        path: the file.
        error: what the system says.
    """
    return UserError(f"{path}: cannot be read: {error.strerror or error}")


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Args:
        path: the file.

    Raises:
        OSError: it can't be read.
        ValueError: it is not JSON in UTF-8.
    """
    return json.loads(path.read_bytes())


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 file so that a reader sees the old content or the new, never a part, also after a power failure.

    Args:
        path: the file; its folder exists.
        text: the new content.

    Raises:
        OSError: it can't be written; the old content is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            flush(file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    flush_folder(path.parent)


def replace_folder(folder: Path, temporary: Path) -> None:
    """Give a complete folder its real name, and delete what had it: under that name a folder is always whole.

    Args:
        folder: the real name.
        temporary: the complete folder, beside it.

    Raises:
        OSError: a file can't be flushed or renamed.
    """
    for path in temporary.iterdir():
        with path.open("rb+") as file:
            flush(file)
    flush_folder(temporary)
    replaced = temporary.with_suffix(".old")
    shutil.rmtree(replaced, ignore_errors=True)
    if folder.exists():
        folder.rename(replaced)
    temporary.rename(folder)
    flush_folder(folder.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def flush(file: IO[Any]) -> None:
    """Wait until an open file is on the disk.

    Args:
        file: open for writing.
    """
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system lets one.

    Args:
        folder: the folder.
    """
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
