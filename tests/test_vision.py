"""A torchvision that cannot be imported is explained in a line, and hinders nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import aibig
from aibig.vision import import_torchvision

RUN = """
import sys
from aibig.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def broken(tmp_path: Path) -> dict[str, str]:
    """The environment of a process whose torchvision was built for another torch."""
    package = tmp_path / "site" / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    paths = [str(tmp_path / "site"), str(Path(aibig.__file__).parents[1])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def run(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", RUN, *words], env=environment, capture_output=True, text=True)


def test_naming_its_models_is_one_line_with_versions_and_cure(broken: dict[str, str]) -> None:
    for number in range(20):  # pictures are read without it
        path = Path("pictures") / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (number, 0, 0)).save(path)
    data = "{name: image_folder, path: pictures, image_size: 32, workers: 0}"
    Path("run.yaml").write_text(f"model: {{name: resnet18}}\ntask: {{name: classification}}\ndata: {data}\n")
    done = run(broken, "train", "--config", "run.yaml", "trainer.max_steps=1")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert re.search(r"torchvision \d\S* can't be imported beside torch \d\S* \(operator torchvision::nms", done.stderr)
    assert "pip install --upgrade --force-reinstall torch torchvision" in done.stderr
    assert not Path("runs").exists()


def test_everything_else_works(broken: dict[str, str]) -> None:
    listed = run(broken, "models", "resnet1*")
    assert listed.returncode == 0 and len(listed.stdout.splitlines()) == 3
    trained = run(broken, "train", "--config", "nets/digits", "trainer.max_epochs=null", "trainer.max_steps=1")
    assert (trained.returncode, trained.stderr) == (0, "run: runs/digits-0001\n")


def test_a_missing_one_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)  # makes its import an ImportError
    with pytest.raises(aibig.UserError, match="can't be imported beside torch"):
        import_torchvision()


def test_only_one_module_imports_it() -> None:
    sources = Path(aibig.__file__).parent.rglob("*.py")
    pattern = r"^\s*(import|from) torchvision\b|import_module\(.torchvision"
    found = [path.name for path in sources if re.search(pattern, path.read_text("utf-8"), re.MULTILINE)]
    assert found == ["vision.py"]
