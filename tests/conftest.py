"""What all tests share: one thread, no writing outside tmp_path, where the real data lie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import aibig
from aibig.config.registry import datasets
from aibig.data.arrays import Arrays

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


@pytest.fixture
def image_config() -> Iterator[dict[str, Any]]:
    """A config that trains `cnn` on 60 images, 1x8x8, for as long as its dataset is registered."""

    @aibig.register_dataset("noisy_images")
    def _noisy_images() -> Arrays:
        generator = np.random.default_rng(0)
        targets = generator.integers(2, size=60)
        return Arrays(generator.normal(size=(60, 1, 8, 8)) + targets[:, None, None, None], targets, ["dark", "light"])

    yield {
        "model": {"name": "cnn", "in_channels": 1, "widths": [4, 6, 8]},
        "task": {"name": "classification"},
        "data": {"name": "noisy_images", "batch_size": 8},
        "trainer": {"max_steps": 6, "eval_every": 3, "save_every": 2, "threads": 1},
    }
    datasets._registered.clear()
    datasets._entries = None
