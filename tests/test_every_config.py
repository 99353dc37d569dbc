"""Every shipped config is checked, built and taken a few steps, and says in its header what it gives."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from families import REVIEWS

import aibig
from aibig.config.run_config import load_config, shipped_configs
from aibig.config.yaml_file import read_yaml

CONFIGS = shipped_configs()


@pytest.mark.parametrize("name", CONFIGS)
def test_config_says_its_command_time_and_result(name: str) -> None:
    header = "".join(line for line in CONFIGS[name].read_text().splitlines(keepends=True) if line.startswith("#"))
    assert f"python -m aibig.train --config configs/{name}.yaml" in header
    assert re.search(r"\d+(\.\d+)? (s|min)\b", header), "no time"
    assert re.search(r"(accuracy|return|loss|rmse).*\d\.\d|\d.*(accuracy|return|loss|rmse)", header), "no result"


@pytest.mark.parametrize("name", CONFIGS)
def test_config_trains(name: str, tmp_path: Path, tiny_text: Path) -> None:
    overrides = {"trainer.max_steps": 2}
    sections, own_data = load_config_with_data(name, tiny_text)
    if "env" in sections.values:
        overrides |= {"task.validation_episodes": 1, "task.test_episodes": 1, "task.learning_starts": 500}
    overrides |= own_data
    run = aibig.train(CONFIGS[name], overrides, out=tmp_path / "run")
    assert run.result is not None and run.result["steps"] == 2


def load_config_with_data(name: str, text: Path) -> tuple[aibig.Config, dict[str, str]]:
    """The config, and the settings that, where it names files of the user's, name some that are here instead."""
    data = read_yaml(CONFIGS[name])[0].get("data", {})
    here = REVIEWS if data.get("name") in ("text_labels", "sentences") else text
    overrides = {f"data.{key}": str(here) for key in data if key.endswith("path")}
    if "root" in data:
        overrides["data.root"] = str(write_mnist(text.parent))
    return load_config(CONFIGS[name], overrides), overrides


def write_mnist(root: Path) -> Path:
    """Random digits in MNIST's files (yann.lecun.com/exdb/mnist): a big-endian header, then bytes."""
    generator = np.random.default_rng(0)
    for part, rows in (("train", 600), ("t10k", 50)):
        for name, values in (
            ("images-idx3", generator.integers(0, 256, (rows, 28, 28), dtype=np.uint8)),
            ("labels-idx1", np.arange(rows, dtype=np.uint8) % 10),
        ):
            header = np.array([0x800 + values.ndim, *values.shape], dtype=">i4").tobytes()
            path = root / "MNIST" / "raw" / f"{part}-{name}-ubyte"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(header + values.tobytes())
    return root
