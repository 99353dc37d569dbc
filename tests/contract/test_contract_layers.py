"""Imports point downward only, and what trains knows no task: read from the sources."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import aibig
from aibig.config import registry

PACKAGE = Path(aibig.__file__).parent

LOWEST = ["errors", "seeds", "ranks", "files", "vision", "config"]  # what everything may import

# What each room may import beside itself and the lowest, from the ground up; the longest matching name counts, "*" is
# everything.
MAY_IMPORT = {
    **{name: [] for name in LOWEST},
    "console": [],
    "layers": [],
    "data": [],
    "envs": ["data"],
    "generation": ["layers"],
    "metrics": ["layers", "data", "generation"],
    "models": ["layers", "generation"],
    "pretrained": ["layers", "data", "generation"],  # models: by the registry
    "inference": ["layers", "data", "envs", "generation", "metrics", "pretrained"],
    "tasks": ["layers", "data", "envs", "generation", "metrics", "pretrained", "inference", "tasks.base"],
    "tasks.base": ["metrics"],
    "training": ["layers", "metrics", "tasks.base"],
    "report": ["metrics", "training", "inference", "pretrained"],
    **{name: ["*"] for name in ("runs", "train", "cli", "")},
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
    return own == other or other in LOWEST or bool({"*", other} & {*MAY_IMPORT[own]})


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
            yield from (alias.name[6:] for alias in node.names if f"{alias.name}.".startswith("aibig."))
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are not followed here"
            module = f"{node.module}."
            if module.startswith("aibig."):
                for alias in node.names:
                    below = f"{module}{alias.name}"[6:]
                    yield below if below in modules() else module[6:-1]


@pytest.mark.parametrize("module", modules())
def test_imports_point_downward(module: str) -> None:
    part_of(module)  # one that imports nothing has its place too
    wrong = [name for name in imports(modules()[module].read_text("utf-8")) if not may_import(module, name)]
    assert not wrong, f"aibig.{module} may not import {wrong}"


@pytest.mark.parametrize(
    ("importer", "source", "allowed"),
    [
        ("tasks.supervised", "from aibig.metrics.outcomes import Classes", True),
        ("metrics.outcomes", "from aibig.tasks.base import Task", False),
        ("tasks.supervised", "from aibig.models.net import Net", False),
        ("tasks.supervised", "from aibig.training.trainer import Trainer", False),
        ("data.text.text_data", "def f():\n    import aibig.models.net", False),
        ("data.text.text_data", "from aibig.metrics import outcomes", False),
        ("data.text.text_data", "from aibig.data.order import EpochOrder", True),
        ("training.trainer", "from aibig.tasks.base import Task", True),
        ("training.trainer", "from aibig.tasks.supervised import Supervised", False),
        ("training.trainer", "from aibig.report.page import write_page", False),
        ("training.devices.cpu", "from aibig.training.devices import distributed", True),
        ("layers.norm", "from aibig.models.net import Net", False),
        ("layers.norm", "from aibig.generation.sampling import Sampling", False),
        ("generation.state", "from aibig.models.lstm import Lstm", False),
        ("inference.text_generator", "from aibig.data.text.tokenizer import Tokenizer", True),
        ("inference.text_generator", "if TYPE_CHECKING:\n    from aibig.tasks.base import Task", False),
        ("metrics.classification", "import aibig", False),
        ("pretrained.finetune", "from aibig.data.text.mask_tokens import adds_mask_token", True),
        ("pretrained.finetune", "from aibig.training.optimizers.builders import adamw", False),
        ("models.cnn", "from aibig.pretrained.model_folder import model_folder", False),
        ("report.page", "from aibig.runs.train import train", False),
        ("config.run_config", "from aibig import layers", False),
        ("config.settings", "from aibig.errors import UserError", True),
        ("runs.train", "from aibig.training.trainer import Trainer", True),
        ("cli", "from aibig.runs.train import train", True),
    ],
)
def test_the_order_is_the_one_of_the_design(importer: str, source: str, allowed: bool) -> None:
    assert all(may_import(importer, name) for name in imports(source)) == allowed


# The strings that point upward: names that a table or a section of a config stands for, imported when first used.
POINT_UPWARD = {
    "config.registry": ["data", "envs", "models", "tasks", "training"],
    "config.run_config": ["pretrained.finetune", "training.trainer"],
    "models": ["pretrained.formats"],
}


def strings(source: str) -> Iterator[str]:
    """The modules that a source's strings name: "aibig.models.net:Net", or "aibig.models"."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = re.fullmatch(r"aibig\.([\w.]+)(:\w+)?", node.value)
            if found and found[1] in modules():
                yield found[1]


@pytest.mark.parametrize("module", [name for name in modules() if name])  # the package itself lists its public names
def test_strings_that_point_upward_are_known(module: str) -> None:
    named = strings(modules()[module].read_text("utf-8"))
    upward = sorted({name for name in named if not may_import(module, name)})
    listed = POINT_UPWARD.get(module, [])
    assert [name for name in upward if not any(f"{name}.".startswith(f"{room}.") for room in listed)] == []
    unused = [room for room in listed if not any(f"{name}.".startswith(f"{room}.") for name in upward)]
    assert not unused, f"{module}: lists {unused} for nothing"


def words(text: str) -> set[str]:
    """The words of a text or of a name, in lower case: `QLearning` and `q_learning` are the same two."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", text)}


def forbidden() -> list[set[str]]:
    """What stands for a task: its name, its class and its module, each as the set of its words."""
    rows = registry.tasks.entries().values()
    names = {part for row in rows for part in (row.name, *str(row.target).split(":"))}
    return [words(name.removeprefix("aibig.tasks.")) for name in names if name]


def names_in(source: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every name, attribute and string of a source but its docstrings: not its prose."""
    tree = ast.parse(source)
    prose = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        text = getattr(node, "id", getattr(node, "attr", getattr(node, "value", None)))
        if (
            isinstance(node, ast.Name | ast.Attribute | ast.Constant)
            and isinstance(text, str)
            and id(node) not in prose
        ):
            yield node.lineno, text


@pytest.mark.parametrize("module", [name for name in modules() if name.split(".")[0] == "training"])
def test_training_knows_no_task(module: str) -> None:
    for number, text in names_in(modules()[module].read_text("utf-8")):
        for name in forbidden():
            assert not name <= words(text), f"aibig.{module}:{number} knows of {name}"


@pytest.mark.parametrize(
    "line",
    ["if isinstance(task, QLearning): ...", 'if name == "language_modelling": ...', "loss = task.classification"],
)
def test_the_names_of_tasks_would_be_noticed(line: str) -> None:
    assert any(name <= words(text) for _, text in names_in(line) for name in forbidden())


def test_prose_may_say_anything() -> None:
    assert not list(names_in('"""Trains language models and nets by classification."""\n# q_learning'))
