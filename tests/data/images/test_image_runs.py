"""Runs on images: resumed exactly with any workers, and stopped in one line by a damaged image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from families import train_command
from PIL import Image
from test_resume import assert_same_run, train_in_two_parts

import aibig
from aibig.config.registry import datasets
from aibig.data.arrays import Arrays
from aibig.data.images.image_folder import image_folder
from aibig.data.order import EpochOrder

RUN: dict[str, Any] = {
    "model": {"name": "net", "hidden": 8},
    "task": {"name": "classification"},
    "optimizer": {"name": "adamw", "lr": 1e-2},
    "trainer": {"max_steps": 30, "threads": 1, "log_every": 5, "eval_every": 10, "save_every": 1000},
}


@pytest.fixture
def image_files(tmp_path: Path) -> Path:
    """A folder with 40 small images of noise, of two classes."""
    generator = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (10, 12, 3), dtype=np.uint8)).save(path)
    return tmp_path / "images"


def test_a_run_on_a_folder_resumes_exactly_with_other_workers(image_files: Path, tmp_path: Path) -> None:
    folder = {"name": "image_folder", "path": str(image_files), "image_size": 6, "batch_size": 8}
    aibig.train({**RUN, "data": {**folder, "workers": 0}}, out=tmp_path / "whole")
    other = {**RUN, "data": {**folder, "workers": 2, "prefetch": 3}}
    train_in_two_parts(other, 17, tmp_path / "parts")  # epochs are of 4 batches
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    longer = {"trainer.max_steps": 31, "data.workers": 1}
    assert aibig.train(other, longer, out=tmp_path / "parts", resume=True).result is not None


def test_a_run_with_augmented_images_in_memory_resumes_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
    register = datasets.register("noise", wrapper="aibig.data.arrays:ArrayData")
    try:
        register(lambda: Arrays(pixels, np.arange(60) % 3, ["a", "b", "c"]))
        data = {"name": "noise", "batch_size": 16, "shift_pixels": 2, "flip": True, "rotate_degrees": 10}
        aibig.train({**RUN, "data": data}, out=tmp_path / "whole")
        train_in_two_parts({**RUN, "data": data}, 17, tmp_path / "parts")
        assert_same_run(tmp_path / "whole", tmp_path / "parts")
    finally:
        datasets.entries().pop("noise")
        datasets._registered.pop()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_ends_the_run_in_one_line_and_repaired_it_goes_on(
    workers: int, image_files: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = {"name": "image_folder", "path": str(image_files), "image_size": 6, "batch_size": 8, "workers": workers}
    config = {**RUN, "data": {**folder, "scaling": "range", "validation_fraction": 0, "test_fraction": 0}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    words = ["--config", "run.yaml", "--out", "run", "trainer.save_every=1"]
    order = EpochOrder(40, 8, seed=0)
    last = [order.next() for _ in range(5)][-1][0].max()  # of the last batch: four updates are saved by then
    damaged = image_folder(path=str(image_files)).paths[last]
    intact = damaged.read_bytes()
    damaged.write_bytes(intact[:-60])
    assert train_command(words) == 2
    _, run_line, error = capfd.readouterr().err.splitlines()  # the first says how many samples there are
    assert run_line == "run: run" and f"{damaged}: is not an image that can be read" in error, error
    damaged.write_bytes(intact)
    assert train_command([*words, "--resume"]) == 0
    assert train_command(["--config", "run.yaml", "--out", "expected", "trainer.save_every=1"]) == 0
    assert_same_run(tmp_path / "expected", tmp_path / "run")
