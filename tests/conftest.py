"""What all tests share: one thread, no writing outside tmp_path, where the real data lie."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def quiet_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run in a folder of their own, and leave torch's global settings as they were."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)


@pytest.fixture
def tiny_text(tmp_path: Path) -> Path:
    """A text with something to learn: words in a fixed order, 12,000 characters."""
    path = tmp_path / "tiny.txt"
    path.write_text("the quick brown fox jumps over the lazy dog, and again: " * 215, encoding="utf-8")
    return path


@pytest.fixture
def real_data() -> Path:
    """The folder of public data beside the project; skips where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"needs the public data in {REAL_DATA}")
    return REAL_DATA
