"""Settings: read from the signature of a constructor, and checked against its annotations. Knows no section.

The signature is the schema. A setting is a keyword-only parameter; its annotation (`PositiveInt`, `Fraction`,
`Literal[...]`) is its type, and its default is the default.
"""

from __future__ import annotations

import importlib
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
    """The range of values that an annotation accepts.

    Args:
        description: description, such as "at least 1".
        accepts: function that returns whether a value of the type is in the range.
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
    """A setting: a keyword of a constructor.

    Args:
        name: name of the keyword.
        annotation: type; Any for a parameter without annotation, `Unreadable` if it can't be evaluated.
        default: default; REQUIRED if there is none.
        about: its text in the docstring; "" if there is none.
    """

    name: str
    annotation: Any = Any
    default: Any = REQUIRED
    about: str = ""


@dataclass(frozen=True)
class Unreadable:
    """An annotation that can't be evaluated, so that no value can be checked against it.

    Args:
        source: source of the annotation.
        module: module of the annotation.
        reason: error of the evaluation.
    """

    source: str
    module: str
    reason: str


def read_settings(target: str | Callable[..., Any], *, positional: bool = False) -> dict[str, Setting]:
    """The settings of a constructor or function, by name.

    Only keyword-only parameters are settings, since the caller passes the parameters before the `*`.

    A class whose `__init__` has `**settings` also has the keyword-only settings of its base class, and so on. The text
    of a setting is that of the class, or else of the base class that declares it.

    Args:
        target: callable, or "module:attribute".
        positional: whether positional parameters are settings too, as in other packages' models.
    """
    target = import_object(target)
    return _settings_of(target.func if isinstance(target, partial) else target, positional)


def documentation(target: str | Callable[..., Any]) -> str:
    """The docstring of a callable, "" without one.

    Args:
        target: callable, or "module:attribute".
    """
    target = import_object(target)
    return inspect.getdoc(target.func if isinstance(target, partial) else target) or ""


def import_object(target: str | Callable[..., Any]) -> Callable[..., Any]:
    """Import the object "module:attribute".

    Args:
        target: name of the object; an object is returned unchanged.
    """
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    imported: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return imported


def check_value(value: Any, annotation: Any) -> Any:
    """Convert a value to a type: an int to a float, a list to a tuple, 1e6 to an int.

    Args:
        value: value that a user wrote.
        annotation: type.

    Raises:
        UserError: the value is of another type (the error has the nearest accepted name), or the type can't be
            evaluated.
    """
    if isinstance(annotation, Unreadable):
        raise UserError(
            f"can't be checked: its annotation {annotation.source!r} in {annotation.module} can't be read "
            f"({annotation.reason}); import what it names where the module is run, not for type checking alone"
        )
    converted = _convert(value, annotation)
    if converted is _MISFIT:
        hint = nearest(value, _literals(annotation)) if isinstance(value, str) else ""
        raise UserError(f"must be {type_description(annotation)}, not {value!r}{hint}")
    return converted


def checked(function: Decorated) -> Decorated:
    """Decorator: keyword-only arguments are checked against their annotations, as a config's settings are.

    Args:
        function: function or method.
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
    """The description of a type, such as "a whole number, at least 1".

    Args:
        annotation: type.
    """
    if annotation is None or annotation is type(None):
        return "null"
    if isinstance(annotation, Unreadable):
        return annotation.source
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
    if kind is int:  # such as 1e6
        return int(value) if is_number and math.isfinite(value) and value == int(value) else _MISFIT
    if kind is str and isinstance(value, Path):
        return str(value)
    return value if isinstance(value, kind) else _MISFIT


@cache
def _settings_of(target: Callable[..., Any], positional: bool) -> dict[str, Setting]:
    settings: dict[str, Setting] = {}
    docstrings = []
    for kind in target.__mro__ if isinstance(target, type) else [target]:
        docstrings.append(kind.__doc__)
        if isinstance(target, type) and "__init__" not in vars(kind):
            continue
        function = vars(kind)["__init__"] if isinstance(target, type) else target
        docstrings.append(function.__doc__)
        parameters = inspect.signature(kind).parameters.values()
        for parameter in parameters:
            is_keyword = parameter.kind is parameter.KEYWORD_ONLY
            if is_keyword or (positional and parameter.kind is parameter.POSITIONAL_OR_KEYWORD):
                setting = Setting(parameter.name, _annotation(function, parameter), parameter.default)
                settings.setdefault(parameter.name, setting)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
        positional = False  # a base class is reached by `**settings`
    docs = {name: text for docstring in reversed(docstrings) for name, text in parameter_docs(docstring).items()}
    return {name: replace(setting, about=docs.get(name, "")) for name, setting in settings.items()}


def _annotation(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """The type of a parameter, whether it is written as a string or not; Any for one without annotation."""
    if parameter.annotation is parameter.empty:
        return Any
    function = inspect.unwrap(function)
    holder = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        return typing.get_type_hints(holder, getattr(function, "__globals__", {}), include_extras=True)[parameter.name]
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        return Unreadable(str(parameter.annotation), function.__module__, str(error))
