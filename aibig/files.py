"""Text files read whole, what is wrong with them named. Knows nothing of what the text is for."""

from __future__ import annotations

from pathlib import Path

from aibig.errors import UserError


def read_utf8(path: str | Path) -> str:
    """The text of a UTF-8 file, without a byte order mark. Raises UserError naming file and byte, or an empty file."""
    try:
        text = Path(path).read_text(encoding="utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text (byte {error.start}); convert it to UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    if not text.strip():
        raise UserError(f"{path}: is empty; give a file with text in it")
    return text
