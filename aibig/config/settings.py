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
from dataclasses import dataclass, replace
from functools import cache, partial, wraps
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

from aibig.config.docstrings import parameter_docs
from aibig.errors import UserError, nearest

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@dataclass(frozen=True)
class Range:
    """The values that an annotation accepts beside its type.

    Args:
        description: in words, such as "at least 1".
        accepts: whether a value of the type is in the range.
    """

    description: str
    accepts: Callable[[Any], bool]


PositiveInt = Annotated[int, Range("at least 1", lambda value: value >= 1)]
NonNegativeInt = Annotated[int, Range("at least 0", lambda value: value >= 0)]
PositiveFloat = Annotated[float, Range("greater than 0", lambda value: 0 < value < math.inf)]
NonNegativeFloat = Annotated[float, Range("at least 0", lambda value: 0 <= value < math.inf)]
Fraction = Annotated[float, Range("from 0 to 1", lambda value: 0 <= value <= 1)]
ExistingPath = Annotated[str, Range("a file or folder that exists", lambda value: Path(value).exists())]

REQUIRED: Any = inspect.Parameter.empty


@dataclass(frozen=True)
class Setting:
    """A keyword of a constructor.

    Args:
        name: of the keyword.
        annotation: the type; Any where it is unknown.
        default: REQUIRED without one.
        about: the line on it in the docstring that documents it, "" without one.
    """

    name: str
    annotation: Any = Any
    default: Any = REQUIRED
    about: str = ""


def read_settings(target: str | Callable[..., Any], *, positional: bool = False) -> dict[str, Setting]:
    """The settings of a constructor or function, by name.

    Only keyword-only parameters are settings, since what stands before the `*` is passed by the caller.

    A class whose `__init__` takes `**settings` has the keyword-only settings of its base class too, and so on upward.
    The line on a setting is that of the class itself, or else of the base class that declares it.

    Args:
        target: a callable, or "module:attribute", which is parsed and not imported.
        positional: whether positional parameters are settings too, as in other packages' models.
    """
    if isinstance(target, str):
        try:
            settings = _settings_of_source(*target.split(":"), positional=positional)
        except _NotLiteral:  # a default that only its own module knows
            settings = None
        if settings is not None:
            return settings
        target = import_object(target)
    return _settings_of_object(target.func if isinstance(target, partial) else target, positional=positional)


def documentation(target: str | Callable[..., Any]) -> str:
    """The docstring of a callable, "" without one.

    Args:
        target: the callable, or "module:attribute", which is parsed and not imported.
    """
    if not isinstance(target, str):
        return inspect.getdoc(target.func if isinstance(target, partial) else target) or ""
    module, _, attribute = target.partition(":")
    match _find_definition(module, attribute):
        case (ast.ClassDef() | ast.FunctionDef()) as node, _:
            return ast.get_docstring(node) or ""
    return ""


def import_object(target: str | Callable[..., Any]) -> Callable[..., Any]:
    """The object that "module:attribute" names.

    Args:
        target: the name; an object is returned as it is.
    """
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    imported: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return imported


def check_value(value: Any, annotation: Any) -> Any:
    """The value converted to its type: an int to a float, a list to a tuple, 1e6 to an int.

    Args:
        value: as a user wrote it.
        annotation: the type.

    Raises:
        UserError: "must be ..., not ...", with the nearest name among those that are accepted.
    """
    converted = _convert(value, annotation)
    if converted is _MISFIT:
        hint = nearest(value, _literals(annotation)) if isinstance(value, str) else ""
        raise UserError(f"must be {type_description(annotation)}, not {value!r}{hint}")
    return converted


def checked(function: Decorated) -> Decorated:
    """Decorator: keyword-only arguments are checked against their annotations, as a config's settings are.

    Args:
        function: the function or method.
    """

    @wraps(function)
    def call(*arguments: Any, **settings: Any) -> Any:
        declared = read_settings(function)
        for name, value in settings.items():
            if name in declared:
                try:
                    settings[name] = check_value(value, declared[name].annotation)
                except UserError as error:
                    raise UserError(f"{name} {error}") from None
        return function(*arguments, **settings)

    return cast(Decorated, call)


def type_description(annotation: Any) -> str:
    """A type in a user's words: "a whole number, at least 1".

    Args:
        annotation: the type.
    """
    if annotation is None or annotation is type(None):
        return "null"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        ranges = [extra.description for extra in arguments[1:] if isinstance(extra, Range)]
        return ", ".join([type_description(arguments[0]), *ranges])
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin in (types.UnionType, typing.Union):
        return " or ".join(map(type_description, arguments))
    if origin in (list, tuple):
        items = [argument for argument in arguments if argument is not Ellipsis]
        return f"a list of {type_description(items[0])}" if items else "a list"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", list: "a list"}
    return words.get(origin or annotation, "a mapping" if origin is dict else str(annotation))


def _literals(annotation: Any) -> list[str]:
    """The names that an annotation accepts."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is Literal:
        return [argument for argument in arguments if isinstance(argument, str)]
    return [name for argument in arguments for name in _literals(argument)]


_MISFIT = object()


def _convert(value: Any, annotation: Any) -> Any:
    """The value converted to its type, or _MISFIT."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return value
    if annotation is None or annotation is type(None):
        return None if value is None else _MISFIT
    if origin is Annotated:
        converted = _convert(value, arguments[0])
        ranges = [extra for extra in arguments[1:] if isinstance(extra, Range)]
        return converted if converted is not _MISFIT and all(limit.accepts(converted) for limit in ranges) else _MISFIT
    if origin is Literal:
        return next((literal for literal in arguments if literal == value and type(literal) is type(value)), _MISFIT)
    if origin in (types.UnionType, typing.Union):
        attempts = (_convert(value, alternative) for alternative in arguments)
        return next((converted for converted in attempts if converted is not _MISFIT), _MISFIT)
    if origin in (list, tuple) or annotation in (list, tuple):
        return _convert_list(value, origin or annotation, arguments)
    if origin is dict or annotation is dict:
        return value if isinstance(value, dict) else _MISFIT
    if isinstance(annotation, type):
        return _convert_scalar(value, annotation)
    return value


def _convert_list(value: Any, kind: type, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(value, list | tuple):
        return _MISFIT
    items = [argument for argument in arguments if argument is not Ellipsis]
    fixed_length = kind is tuple and len(items) == len(arguments) > 0
    if fixed_length and len(value) != len(items):
        return _MISFIT
    expected = items if fixed_length else [items[0] if items else Any] * len(value)
    converted = [_convert(item, annotation) for item, annotation in zip(value, expected, strict=True)]
    return _MISFIT if any(item is _MISFIT for item in converted) else kind(converted)


def _convert_scalar(value: Any, kind: type) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float:
        return float(value) if is_number and not math.isnan(value) else _MISFIT
    if kind is int:  # 1e6 is how people write a million
        return int(value) if is_number and math.isfinite(value) and value == int(value) else _MISFIT
    if kind is str and isinstance(value, Path):
        return str(value)
    return value if isinstance(value, kind) else _MISFIT


def _settings_of_object(target: Callable[..., Any], *, positional: bool) -> dict[str, Setting]:
    settings: dict[str, Setting] = {}
    docstrings = []
    for kind in target.__mro__ if isinstance(target, type) else [target]:
        docstrings.append(kind.__doc__)
        if isinstance(target, type) and "__init__" not in vars(kind):
            continue
        function = vars(kind)["__init__"] if isinstance(target, type) else target
        docstrings.append(function.__doc__)
        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except (NameError, TypeError):
            hints = {}
        parameters = inspect.signature(kind).parameters.values()
        for parameter in parameters:
            name, default = parameter.name, parameter.default
            is_keyword = parameter.kind is parameter.KEYWORD_ONLY
            if is_keyword or (positional and parameter.kind is parameter.POSITIONAL_OR_KEYWORD):
                settings.setdefault(name, Setting(name, hints.get(name, Any), default))
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
        positional = False  # a base class is reached by `**settings`
    return _with_docs(settings, *reversed(docstrings))


def _settings_of_source(
    module: str, name: str, *, positional: bool, any_package: bool = True
) -> dict[str, Setting] | None:
    """The settings of what `name` means in a parsed module; None if that is not found."""
    match _find_definition(module, name, any_package):
        case ast.FunctionDef() as function, home:
            settings = _declared_settings(function, home, function.args.args if positional else [])
            return _with_docs(settings, ast.get_docstring(function))
        case ast.ClassDef() as node, home:
            own = next((item for item in node.body if getattr(item, "name", "") == "__init__"), None)
            if not isinstance(own, ast.FunctionDef):
                inherited = _settings_of_base(node, home, positional=positional, any_package=any_package)
                return inherited and _with_docs(inherited, ast.get_docstring(node))
            settings = _declared_settings(own, home, own.args.args[1:] if positional else [])
            if own.args.kwarg:
                inherited = _settings_of_base(node, home, positional=False, any_package=False)
                settings = {**settings, **(inherited or {}), **settings}  # its own first
            return _with_docs(settings, ast.get_docstring(own), ast.get_docstring(node))
    return None


def _settings_of_base(node: ast.ClassDef, module: str, **options: bool) -> dict[str, Setting] | None:
    names = [base.id for base in node.bases if isinstance(base, ast.Name)]
    return _settings_of_source(module, names[0], **options) if names else None


def _declared_settings(function: ast.FunctionDef, module: str, positional: list[ast.arg]) -> dict[str, Setting]:
    """The keyword-only parameters of a parsed function, after those in `positional`, the last of its others."""
    arguments = function.args
    defaults = [*[None] * len(positional), *arguments.defaults][len(arguments.defaults) :]
    pairs = [*zip(positional, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    settings = {}
    for argument, default in pairs:
        annotation = Any if argument.annotation is None else _evaluate(argument.annotation, module)
        value = REQUIRED if default is None else _evaluate_default(default)
        settings[argument.arg] = Setting(argument.arg, annotation, value)
    return settings


def _with_docs(settings: dict[str, Setting], *docstrings: str | None) -> dict[str, Setting]:
    """`settings` with what docstrings say of them; a later docstring goes first."""
    docs = {name: text for docstring in docstrings for name, text in parameter_docs(docstring).items()}
    return {name: replace(setting, about=docs.get(name, setting.about)) for name, setting in settings.items()}


@cache
def _parsed_module(module: str) -> ast.Module | None:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return ast.parse(Path(spec.origin).read_bytes())


def _find_definition(module: str, name: str, any_package: bool = True) -> tuple[ast.stmt, str] | None:
    """The class, function or assignment that defines `name` in a parsed module, and the module it stands in.

    Imports are followed, but without `any_package` only within the module's own package and aibig, since to find a
    module in a package imports the package.
    """
    tree = _parsed_module(module)
    for node in [] if tree is None else tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return node, module
        if isinstance(node, ast.Assign) and [getattr(target, "id", None) for target in node.targets] == [name]:
            return node, module
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            is_followed = any_package or node.module.split(".")[0] in (module.split(".")[0], "aibig")
            for alias in node.names:
                if is_followed and (alias.asname or alias.name) == name:
                    return _find_definition(node.module, alias.name, any_package)
    return None


class _NotLiteral(Exception):
    """A default that can't be known without importing."""


def _evaluate_default(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise _NotLiteral from None


def _evaluate(node: ast.expr, module: str) -> Any:
    """An annotation in a parsed module; Any where only an import can tell."""
    try:
        return _value(node, module)
    except Exception:  # a name that only its own module knows, torch.Tensor say: it cannot stand in a file
        return Any


def _value(node: ast.expr, module: str) -> Any:
    code = compile(ast.Expression(node), "<signature>", "eval")
    return eval(code, {**vars(typing), **globals()}, _ModuleNames(module))  # type: ignore[arg-type]


@dataclass(frozen=True)
class _ModuleNames:
    """What a parsed module assigns to names of its own: `RenderMode = Literal["rgb_array", "human"]`."""

    module: str

    def __getitem__(self, name: str) -> Any:
        """Raises KeyError for what is not assigned there, nor in a module of its package that it is imported from."""
        match _find_definition(self.module, name, any_package=False):
            case _, home if home == __name__:
                return globals()[name]
            case ast.Assign() as node, home:
                return _value(node.value, home)
        raise KeyError(name)
