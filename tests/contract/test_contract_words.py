"""Names are the field's own, and every parameter of what is public has its line: read from the sources."""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import aibig
from aibig.config.docstrings import parameter_docs

PACKAGE = Path(aibig.__file__).parent
TESTS = Path(__file__).parents[1]

# Words of no field, as whole names ...
NAMES = {
    *("one", "given", "into", "places", "holds", "adopt", "told", "owed", "settle", "settle_up", "hide"),
    *("rehearse", "rehearsal", "catch_up", "foretell", "foretold", "acted", "drawn", "joined", "host_looks", "nats"),
    *("headline", "log_normalizer", "visible", "followers", "follower", "follow", "rewind", "Keeping", "Given"),
}
# ... and as a part of them.
PARTS = {"follower", "followers", "owed", "told", "foretell", "rehearse", "rehearsal", "adopt", "headline", "nats"}
PHRASES = re.compile(r"\bnot to be had\b|\bfollowers?\b|\bforetells?\b|\bforetold\b|\bowed\b")


def sources() -> dict[str, Path]:
    """Every module of the package and of its tests, by name."""
    found = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}
    tests = {f"tests.{'.'.join(path.relative_to(TESTS).with_suffix('').parts)}": path for path in TESTS.rglob("*.py")}
    return found | {name: path for name, path in sorted(tests.items()) if path != Path(__file__)}


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """The parsed source of a file."""
    return ast.parse(path.read_text("utf-8"))


def names_of(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, name) of everything that is named: variables, parameters, attributes, keywords, functions, classes."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.keyword(arg=str() as name):
                yield node.value.lineno, name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) if not name.startswith("test_"):  # a sentence
                yield node.lineno, name


def is_strange(name: str) -> bool:
    """Whether a name is made of a word that no field has."""
    return name in NAMES or bool(PARTS & {*re.findall(r"[a-z]+", name.lower())} & {*name.lower().split("_")})


@pytest.mark.parametrize("module", sources())
def test_names_are_the_fields_own(module: str) -> None:
    wrong = sorted({f"line {line}: {name}" for line, name in names_of(tree_of(sources()[module])) if is_strange(name)})
    assert not wrong, f"{module}: {', '.join(wrong)}"


@pytest.mark.parametrize("module", [name for name in sources() if not name.startswith("tests.")])
def test_prose_has_no_dialect(module: str) -> None:
    lines = sources()[module].read_text("utf-8").splitlines()
    wrong = [f"line {number}: {found[0]}" for number, line in enumerate(lines, 1) if (found := PHRASES.search(line))]
    assert not wrong, f"{module}: {', '.join(wrong)}"


def test_a_strange_name_would_be_noticed() -> None:
    tree = ast.parse("def f(follower_every): return [one for one in follower_every]")
    assert {name for _, name in names_of(tree) if is_strange(name)} == {"one", "follower_every"}
    assert not any(map(is_strange, ("one_hot", "given_name", "stone", "into_tensor")))


def undocumented(tree: ast.Module) -> Iterator[str]:
    """Each parameter of a public function, method or constructor that has no line of its own.

    A method that overrides another of the package is documented there, where the parameter's name is the same.
    """
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield from _missing(node, node.name, [ast.get_docstring(node)])
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for method in node.body:
                if not isinstance(method, ast.FunctionDef):
                    continue
                if any(getattr(mark, "id", getattr(mark, "attr", "")) == "overload" for mark in method.decorator_list):
                    continue
                if method.name == "__init__":
                    yield from _missing(method, node.name, [ast.get_docstring(node), ast.get_docstring(method)])
                elif not method.name.startswith("_"):
                    docs = [ast.get_docstring(method), *_inherited(node, method.name)]
                    yield from _missing(method, f"{node.name}.{method.name}", docs)


def _missing(function: ast.FunctionDef, name: str, docstrings: list[str | None]) -> Iterator[str]:
    documented = {key for docstring in docstrings for key in parameter_docs(docstring)}
    arguments = function.args
    parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    parameters += [extra for extra in (arguments.vararg, arguments.kwarg) if extra is not None]
    for parameter in parameters:
        if parameter.arg not in {"self", "cls", *documented} and not parameter.arg.startswith("_"):
            yield f"{name}({parameter.arg})"


@functools.cache
def _classes() -> dict[str, ast.ClassDef]:
    trees = [tree_of(path) for name, path in sources().items() if not name.startswith("tests.")]
    return {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}


def _inherited(node: ast.ClassDef, method: str) -> Iterator[str | None]:
    for base in node.bases:
        parent = _classes().get(getattr(base, "id", getattr(base, "attr", "")))
        if parent is not None and parent is not node:
            for inner in parent.body:
                if isinstance(inner, ast.FunctionDef) and inner.name == method:
                    yield ast.get_docstring(inner)
            yield from _inherited(parent, method)


@pytest.mark.parametrize("module", [name for name in sources() if not name.startswith("tests.")])
def test_every_public_parameter_has_its_line(module: str) -> None:
    missing = list(undocumented(tree_of(sources()[module])))
    assert not missing, f"{module}: {len(missing)} without a line under Args: {', '.join(missing)}"


def test_an_undocumented_parameter_would_be_noticed() -> None:
    source = inspect.cleandoc('''
        def documented(x, y):
            """Add.

            Args:
                x: a number,
                    of any kind.
                y: another.
            """
        def lacking(x, *, z=1):
            """Lack a line.

            Args:
                x: a number.
            """
        def _private(q): ...
    ''')
    assert list(undocumented(ast.parse(source))) == ["lacking(z)"]
    assert parameter_docs(ast.get_docstring(ast.parse(source).body[0]))["x"] == "a number, of any kind."  # type: ignore[arg-type]
