"""Imports point downward only, and what trains knows no task: read from the sources."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import aibig
from aibig import registry

PACKAGE = Path(aibig.__file__).parent

LEVEL_0 = ["registry", "config", "errors", "seeds", "settings", "vision"]

# What each part may import beside itself and level 0; the longest matching name counts, "*" is everything.
MAY_IMPORT = {
    **{name: [] for name in LEVEL_0},
    "layers": [],
    "models": ["layers"],
    "vision": [],
    "data": ["vision"],
    "envs": [],
    "metrics": [],
    "outcomes": ["metrics"],
    "inference": ["data", "envs", "layers", "models", "outcomes"],
    "tasks": ["tasks.base", "inference", "data", "envs", "metrics", "outcomes", "layers"],  # models: by the registry
    "tasks.base": ["outcomes"],
    "pretrained": ["inference", "layers"],
    "training": ["layers"],
    "training.callbacks": ["training.trainer"],  # for types only: what it is told of
    "training.tensorboard": ["training.callbacks", "training.trainer"],
    "training.run_state": ["layers", "training", "tasks.base"],
    "training.trainer": [
        *("layers", "outcomes", "tasks.base"),
        *("training", "training.callbacks", "training.run_state", "training.tensorboard"),
    ],
    "report": ["metrics", "outcomes", "training", "inference"],
    **{
        name: ["*"]
        for name in (
            *("train", "rehearsal", "dry_run", "learning_rate", "repeat", "evaluation", "comparison"),
            *("cli", "__main__", ""),
        )
    },
}


def part_of(module: str) -> str:
    """The part that a module (without "aibig.") belongs to. Raises KeyError for one without a place."""
    names = module.split(".")
    for length in range(len(names), 0, -1):
        if ".".join(names[:length]) in MAY_IMPORT:
            return ".".join(names[:length])
    raise KeyError(f"aibig.{module} has no place in the order; give it one in {Path(__file__).name}")


def may_import(importer: str, imported: str) -> bool:
    """Whether the order allows it."""
    own, other = part_of(importer), part_of(imported)
    return own == other or other in LEVEL_0 or bool({"*", other} & {*MAY_IMPORT[own]})


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the package, by name without "aibig."; the package itself is ""."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        names = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(names[:-1] if names[-1] == "__init__" else names)] = path
    return found


def imports(source: str) -> Iterator[str]:
    """The modules of this package that a source imports anywhere, functions and type checking included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (one.name[6:] for one in node.names if f"{one.name}.".startswith("aibig."))
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are not followed here"
            module = f"{node.module}."
            if module.startswith("aibig."):
                for one in node.names:
                    below = f"{module}{one.name}"[6:]
                    yield below if below in modules() else module[6:-1]


@pytest.mark.parametrize("module", modules())
def test_imports_point_downward(module: str) -> None:
    part_of(module)  # one that imports nothing has its place too
    wrong = [one for one in imports(modules()[module].read_text("utf-8")) if not may_import(module, one)]
    assert not wrong, f"aibig.{module} may not import {wrong}"


@pytest.mark.parametrize(
    ("importer", "source", "allowed"),
    [
        ("tasks.supervised", "from aibig.outcomes import Classes", True),
        ("outcomes", "from aibig.tasks.base import Task", False),
        ("tasks.supervised", "from aibig.models.net import Net", False),
        ("tasks.supervised", "from aibig.training.trainer import Trainer", False),
        ("data.text", "def f():\n    import aibig.models.net", False),
        ("data.text", "from aibig import metrics", False),
        ("data.text", "from aibig.data.order import EpochOrder", True),
        ("training.trainer", "from aibig.tasks.base import Task", True),
        ("training.trainer", "from aibig.tasks.supervised import Supervised", False),
        ("training.gradients", "from aibig.tasks.base import Task", False),
        ("training.gradients", "from aibig.training.trainer import Trainer", False),
        ("training.gradients", "from aibig.training import distributed", True),
        ("layers.attention", "from aibig.models.net import Net", False),
        ("inference.text", "from aibig.data.tokenizer import Tokenizer", True),
        ("inference.text", "if TYPE_CHECKING:\n    from aibig.tasks.base import Task", False),
        ("metrics", "import aibig", False),
        ("pretrained", "from aibig.inference.model_folder import model_folder", True),
        ("pretrained", "from aibig.training.optimizer import adamw", False),
        ("models.cnn", "from aibig.inference.model_folder import model_folder", False),
        ("config", "from aibig import layers", False),
        ("settings", "from aibig.errors import UserError", True),
        ("cli", "from aibig.training.trainer import Trainer", True),
    ],
)
def test_the_order_is_the_one_of_the_design(importer: str, source: str, allowed: bool) -> None:
    assert all(may_import(importer, one) for one in imports(source)) == allowed


def words(text: str) -> set[str]:
    """The words of a text or of a name, in lower case: `QLearning` and `q_learning` are the same two."""
    return {one.lower() for one in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", text)}


def forbidden() -> list[set[str]]:
    """What stands for a task: its name, its class, its module, its family; each as the set of its words."""
    rows = registry.tasks.entries().values()
    names = {part for row in rows for part in (row.name, row.family, *str(row.target).split(":"))}
    return [words(name.removeprefix("aibig.tasks.")) for name in names if name]


@pytest.mark.parametrize("module", [one for one in modules() if one.split(".")[0] == "training"])
def test_training_knows_no_task(module: str) -> None:
    text = modules()[module].read_text("utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        for name in forbidden():
            assert not name <= words(line), f"aibig.{module}:{number} knows of {name}"


def test_the_names_of_tasks_would_be_noticed() -> None:
    lines = "if isinstance(task, QLearning):", 'if name == "language_modelling":', "# for classification"
    for line in lines:
        assert any(name <= words(line) for name in forbidden()), line
