"""Settings as constructors declare them: read from a signature without importing it, then checked.

The signature is the schema. A setting is a keyword of a constructor; its annotation says what it may be
(`PositiveInt`, `Fraction`, `Literal[...]`), its default says what it is when nobody sets it.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import math
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial, wraps
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

from aibig.errors import UserError, nearest

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@dataclass(frozen=True)
class Range:
    """The values that an annotation admits beside its type."""

    words: str
    admits: Callable[[Any], bool]


PositiveInt = Annotated[int, Range("at least 1", lambda value: value >= 1)]
NonNegativeInt = Annotated[int, Range("at least 0", lambda value: value >= 0)]
PositiveFloat = Annotated[float, Range("greater than 0", lambda value: 0 < value < math.inf)]
NonNegativeFloat = Annotated[float, Range("at least 0", lambda value: 0 <= value < math.inf)]
Fraction = Annotated[float, Range("from 0 to 1", lambda value: 0 <= value <= 1)]
ExistingPath = Annotated[str, Range("a file or folder that exists", lambda value: Path(value).exists())]

REQUIRED: Any = inspect.Parameter.empty


@dataclass(frozen=True)
class Setting:
    """One keyword of a constructor."""

    name: str
    annotation: Any = Any
    default: Any = REQUIRED


def read_settings(target: str | Callable[..., Any], *, positional: bool = False) -> dict[str, Setting]:
    """The settings of `target`, a callable or "module:attribute"; the latter is parsed, not imported.

    Only keyword-only parameters are settings, since what stands before the `*` is handed over by the caller;
    with `positional`, all of them are (other people's models declare theirs so).
    """
    if isinstance(target, str):
        parsed = _parsed_function(target)
        try:
            if parsed is not None:
                return _settings_of_source(*parsed, positional=positional)
        except _NotLiteral:  # a default that only its own module knows
            pass
        target = load(target)
    if isinstance(target, partial):
        target = target.func
    return _settings_of_object(target, positional=positional)


def documentation(target: str | Callable[..., Any]) -> str:
    """The docstring of `target`, a callable or "module:attribute"; the latter is parsed, not imported. "" for none."""
    if not isinstance(target, str):
        return inspect.getdoc(target.func if isinstance(target, partial) else target) or ""
    module, _, attribute = target.partition(":")
    match _defined(module, attribute):
        case (ast.ClassDef() | ast.FunctionDef()) as node, _:
            return ast.get_docstring(node) or ""
    return ""


def check(value: Any, annotation: Any) -> Any:
    """`value` as `annotation` wants it (an int where it says float becomes one, a list a tuple).

    Raises UserError with the words "must be ..., not ...", and the nearest of what it may be by name.
    """
    fitted = _fit(value, annotation)
    if fitted is _MISFIT:
        hint = nearest(value, _words(annotation)) if isinstance(value, str) else ""
        raise UserError(f"must be {describe(annotation)}, not {value!r}{hint}")
    return fitted


def checked(function: Decorated) -> Decorated:
    """Decorator: keyword-only arguments are checked against their annotations, as a config's settings are."""

    @wraps(function)
    def call(*arguments: Any, **settings: Any) -> Any:
        declared = read_settings(function)
        for name, value in settings.items():
            if name in declared:
                try:
                    settings[name] = check(value, declared[name].annotation)
                except UserError as error:
                    raise UserError(f"{name} {error}") from None
        return function(*arguments, **settings)

    return cast(Decorated, call)


def describe(annotation: Any) -> str:
    """An annotation in a user's words: "a whole number, at least 1"."""
    if annotation is None or annotation is type(None):
        return "null"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        limits = [extra.words for extra in arguments[1:] if isinstance(extra, Range)]
        return ", ".join([describe(arguments[0]), *limits])
    if origin is Literal:
        return "one of " + ", ".join(repr(one) for one in arguments)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(describe(one) for one in arguments)
    if origin in (list, tuple):
        inner = [one for one in arguments if one is not Ellipsis]
        return f"a list of {describe(inner[0])}" if inner else "a list"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", list: "a list"}
    return words.get(origin or annotation, "a mapping" if origin is dict else str(annotation))


def load(target: str | Callable[..., Any]) -> Callable[..., Any]:
    """The object that "module:attribute" names; an object is returned as it is."""
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    made: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return made


def _words(annotation: Any) -> list[str]:
    """What an annotation admits by name."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is Literal:
        return [one for one in arguments if isinstance(one, str)]
    return [word for one in arguments for word in _words(one)]


_MISFIT = object()


def _fit(value: Any, annotation: Any) -> Any:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return value
    if annotation is None or annotation is type(None):
        return None if value is None else _MISFIT
    if origin is Annotated:
        fitted = _fit(value, arguments[0])
        limits = [extra for extra in arguments[1:] if isinstance(extra, Range)]
        return fitted if fitted is not _MISFIT and all(one.admits(fitted) for one in limits) else _MISFIT
    if origin is Literal:
        return next((one for one in arguments if one == value and type(one) is type(value)), _MISFIT)
    if origin in (types.UnionType, typing.Union):
        fits = (_fit(value, one) for one in arguments)
        return next((one for one in fits if one is not _MISFIT), _MISFIT)
    if origin in (list, tuple) or annotation in (list, tuple):
        return _fit_list(value, origin or annotation, arguments)
    if origin is dict or annotation is dict:
        return value if isinstance(value, dict) else _MISFIT
    if isinstance(annotation, type):
        return _fit_plain(value, annotation)
    return value


def _fit_list(value: Any, kind: type, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(value, list | tuple):
        return _MISFIT
    inner = [one for one in arguments if one is not Ellipsis]
    fixed_length = kind is tuple and len(inner) == len(arguments) > 0
    if fixed_length and len(value) != len(inner):
        return _MISFIT
    expected = inner if fixed_length else [inner[0] if inner else Any] * len(value)
    fitted = [_fit(one, wanted) for one, wanted in zip(value, expected, strict=True)]
    return _MISFIT if any(one is _MISFIT for one in fitted) else kind(fitted)


def _fit_plain(value: Any, kind: type) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float:
        return float(value) if number and not math.isnan(value) else _MISFIT
    if kind is int:  # 1e6 is how people write a million
        return int(value) if number and math.isfinite(value) and value == int(value) else _MISFIT
    if kind is str and isinstance(value, Path):
        return str(value)
    return value if isinstance(value, kind) else _MISFIT


def _settings_of_object(target: Callable[..., Any], *, positional: bool) -> dict[str, Setting]:
    function = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):
        hints = {}
    kinds = [inspect.Parameter.KEYWORD_ONLY, *([inspect.Parameter.POSITIONAL_OR_KEYWORD] if positional else [])]
    parameters = inspect.signature(target).parameters.values()
    return {
        one.name: Setting(one.name, hints.get(one.name, Any), one.default) for one in parameters if one.kind in kinds
    }


@cache
def _parsed_module(module: str) -> ast.Module | None:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def _defined(module: str, name: str, elsewhere: bool = True) -> tuple[ast.stmt, str] | None:
    """The class, function or assignment that gives `name` its meaning in a parsed module, and the module it stands in.

    Imports are followed; unless `elsewhere`, only within the module's own package, since to find another imports it.
    """
    tree = _parsed_module(module)
    for node in [] if tree is None else tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return node, module
        if isinstance(node, ast.Assign) and [getattr(one, "id", None) for one in node.targets] == [name]:
            return node, module
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            follows = elsewhere or node.module.split(".")[0] == module.split(".")[0]
            for alias in node.names:
                if follows and (alias.asname or alias.name) == name:
                    return _defined(node.module, alias.name, elsewhere)
    return None


def _parsed_function(target: str) -> tuple[ast.FunctionDef, bool, str] | None:
    """The function that "module:attribute" calls, whether it is a method, and its module; None if it can't be told."""
    module, _, attribute = target.partition(":")
    match _defined(module, attribute):
        case ast.FunctionDef() as node, where:
            return node, False, where
        case ast.ClassDef() as node, where:
            own = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
            if own:
                return own[0], True, where
            bases = [one.id for one in node.bases if isinstance(one, ast.Name)]
            return _parsed_function(f"{where}:{bases[0]}") if bases else None
    return None


def _settings_of_source(node: ast.FunctionDef, is_method: bool, module: str, *, positional: bool) -> dict[str, Setting]:
    arguments = node.args
    pairs = list(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))
    if positional:
        before = arguments.args[1:] if is_method else arguments.args
        missing = [None] * (len(before) - len(arguments.defaults))
        pairs = list(zip(before, [*missing, *arguments.defaults][-len(before) or None :], strict=True)) + pairs
    settings = {}
    for argument, default in pairs:
        annotation = Any if argument.annotation is None else _evaluate(argument.annotation, module)
        settings[argument.arg] = Setting(
            argument.arg, annotation, REQUIRED if default is None else _evaluate_default(default)
        )
    return settings


class _NotLiteral(Exception):
    """A default that can't be known without importing."""


def _evaluate_default(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise _NotLiteral from None


def _evaluate(node: ast.expr, module: str) -> Any:
    """An annotation in a parsed module; Any where it says what only an import knows."""
    try:
        return _value(node, module)
    except Exception:  # a name that only its own module knows, torch.Tensor say: it cannot stand in a file
        return Any


def _value(node: ast.expr, module: str) -> Any:
    code = compile(ast.Expression(node), "<signature>", "eval")
    return eval(code, {**vars(typing), **globals()}, _Names(module))  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Names:
    """What a parsed module calls by a name of its own: `Rendered = Literal["rgb_array", "human"]`."""

    module: str

    def __getitem__(self, name: str) -> Any:
        """Raises KeyError for what is not assigned there, nor in a module of its package that it is imported from."""
        match _defined(self.module, name, elsewhere=False):
            case _, where if where == __name__:
                return globals()[name]
            case ast.Assign() as node, where:
                return _value(node.value, where)
        raise KeyError(name)
