"""Text files read whole, what is wrong with them named. Knows nothing of what the text is for."""

from __future__ import annotations

from pathlib import Path

from aibig.errors import UserError

BETWEEN_FILES = "\n\n"


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


def read_files(path: str | Path) -> list[str]:
    """The texts of a file, or of all .txt files in a folder and below, in the order of their paths.

    Raises UserError naming the file, and for a folder without any.
    """
    folder = Path(path)
    if not folder.is_dir():
        return [read_utf8(folder)]
    files = sorted(one for one in folder.rglob("*.txt") if one.is_file())
    if not files:
        raise UserError(f"{path}: holds no .txt file, nor do the folders below; give a file, or a folder with some")
    return [read_utf8(one) for one in files]
