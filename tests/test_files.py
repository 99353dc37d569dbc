"""What is read is UTF-8, or the error says where it is not; what is written is there whole or as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aibig.errors import UserError
from aibig.files import read_json, read_utf8, replace_folder, write_text


def full_disk(_: int) -> None:
    """An fsync that finds no room."""
    raise OSError(28, "No space left on device")


def test_text_is_read_without_its_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes("\ufeffrosé\r\n".encode())
    assert read_utf8(path) == "rosé\n"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("na\xefve".encode("latin-1"), r"x\.txt: is not UTF-8 text \(byte 2\); convert it to UTF-8$"),
        (b"", r"x\.txt: is empty"),
        (b" \n", r"x\.txt: is empty"),
        (None, r"x\.txt: cannot be read: No such file or directory$"),
    ],
)
def test_what_is_no_text_is_named(content: bytes | None, complaint: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(UserError, match=complaint):
        read_utf8(tmp_path / "x.txt")


def test_an_empty_file_may_be_accepted(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("\n")
    assert read_utf8(tmp_path / "x.txt", may_be_empty=True) == "\n"


def test_json_is_read_or_the_reason_is_raised(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"é": [1]}', encoding="utf-8")
    assert read_json(tmp_path / "x.json") == {"é": [1]}
    for content in (b'{"x"', b'"\xff"'):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(ValueError):
            read_json(tmp_path / "x.json")
    with pytest.raises(OSError):
        read_json(tmp_path / "y.json")


def test_a_file_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "é")
    assert path.read_bytes() == "é".encode()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space left"):
            write_text(path, "new")
    assert path.read_bytes() == "é".encode() and [*tmp_path.iterdir()] == [path]
    write_text(path, "new")
    assert path.read_text() == "new" and [*tmp_path.iterdir()] == [path]


def test_a_file_and_its_name_are_on_the_disk_before_anyone_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = []
    monkeypatch.setattr(
        os, "fsync", lambda handle: flushed.append((os.fstat(handle).st_ino, (tmp_path / "x").exists()))
    )
    write_text(tmp_path / "x", "text")
    inodes = [(tmp_path / "x").stat().st_ino, tmp_path.stat().st_ino]
    assert flushed == [(inodes[0], False), *([(inodes[1], True)] if os.name == "posix" else [])]


def test_a_folder_takes_the_place_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, temporary = tmp_path / "model", tmp_path / ".model.tmp"
    for content in ("old", "new"):
        temporary.mkdir()
        (temporary / "weights").write_text(content)
        if content == "new":
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", full_disk)
                with pytest.raises(OSError, match="No space left"):
                    replace_folder(folder, temporary)
            assert (folder / "weights").read_text() == "old"
        replace_folder(folder, temporary)
        assert (folder / "weights").read_text() == content and [*tmp_path.iterdir()] == [folder]
