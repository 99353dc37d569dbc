"""The package as others get it: a wheel with its configs, a fast import, no torch before it is needed."""

from __future__ import annotations

import inspect
import os
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import aibig

ROOT = Path(__file__).parents[1]


def test_import_brings_no_torch(tmp_path: Path) -> None:
    code = "import sys, aibig; print(len([name for name in sys.modules if name.split('.')[0] == 'torch']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


def test_every_public_name_is_there() -> None:
    for name in aibig.__all__:
        assert getattr(aibig, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        aibig.nothing  # noqa: B018


def test_train_is_the_function_that_its_help_describes() -> None:
    assert str(inspect.signature(aibig.train)).startswith("(config: ")
    page = pydoc.plain(pydoc.render_doc(aibig.train))
    assert "function train in module aibig.runs.train" in page and "overrides: values by dotted key" in page


@pytest.mark.parametrize("imports", ["import aibig", "import aibig.train", "from aibig import train; import aibig"])
def test_train_is_the_function_however_it_is_imported(imports: str, tmp_path: Path) -> None:
    call = "print(aibig.train('nets/digits', {'trainer.max_steps': 1}, out='run').result['steps'])"
    command = [sys.executable, "-c", f"{imports}\n{call}"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout == "1\n"


@pytest.mark.parametrize(
    ("module", "words", "usage"),
    [
        ("aibig.train", [], "usage: python -m aibig.train [-h] [--config FILE]"),
        ("aibig.cli", ["train"], "usage: aibig train [-h] [--config FILE]"),
        ("aibig.cli", ["describe"], "usage: aibig describe [-h]"),
    ],
)
def test_a_module_that_is_run_shows_its_help(module: str, words: list[str], usage: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", module, *words, "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(usage) and done.stderr == ""


def test_the_wheel_trains_a_shipped_config_without_a_checkout(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    env = {**os.environ, "PYTHONPATH": str(site)}
    where = [sys.executable, "-c", "import aibig; print(aibig.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=env, check=True, capture_output=True, text=True).stdout
    assert Path(found.strip()).parent == site / "aibig"
    assert (site / "aibig" / "py.typed").exists()
    train = [sys.executable, "-m", "aibig.train", "--config", "nets/digits", "trainer.max_epochs=1", "--out", "run"]
    subprocess.run(train, cwd=tmp_path, env=env, check=True, capture_output=True)
    assert (tmp_path / "run" / "model" / "weights.safetensors").exists()
