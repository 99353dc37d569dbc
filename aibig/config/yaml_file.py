"""The YAML of configs: numbers of YAML 1.2, and the line of each key. Knows no section."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from aibig.errors import UserError
from aibig.files import read_utf8


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The values of a YAML file, and the location of each dotted key, such as "configs/x.yaml:7".

    Args:
        path: path of the file.

    Raises:
        UserError: the file can't be read, or is not a YAML mapping.
    """
    try:
        node = yaml.compose(read_utf8(path, may_be_empty=True), Loader=Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}:{line}: not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    if node is None:
        raise UserError(f"{path}: is empty; it needs at least the sections 'model' and 'task'")
    locations: dict[str, str] = {}
    values = _construct(node, path, "", locations)
    if not isinstance(values, dict):
        raise UserError(f"{path}:1: must be a mapping of sections, such as 'model:' and 'task:'")
    return values, locations


class Loader(yaml.SafeLoader):
    """Safe YAML with the numbers of YAML 1.2: 1e-3 is a number, 1:30 is text (in 1.1 it is 90), 010 is ten (not 8)."""


class Dumper(yaml.SafeDumper):
    """Quotes text that `Loader` would read as a number."""


INT, FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
EXPONENT = re.compile(r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$")
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag not in (INT, FLOAT)]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(INT, re.compile(r"^([-+]?\d[\d_]*|0x[0-9a-fA-F]+)$"), list("-+0123456789"))
Loader.add_implicit_resolver(FLOAT, EXPONENT, list("-+0123456789."))
Loader.add_implicit_resolver(
    FLOAT,
    re.compile(r"^([-+]?(\d[\d_]*\.\d*|\.\d+)|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"),
    list("-+0123456789."),
)
Loader.add_constructor(INT, lambda loader, node: int(node.value, 16 if "x" in node.value else 10))
Dumper.add_implicit_resolver(FLOAT, EXPONENT, list("-+0123456789."))


def _construct(node: yaml.Node, path: Path, key: str, locations: dict[str, str]) -> Any:
    locations[key] = f"{path}:{node.start_mark.line + 1}"
    if not isinstance(node, yaml.MappingNode):
        loader = Loader("")
        try:
            return loader.construct_object(node, deep=True)
        except (yaml.constructor.ConstructorError, ValueError, RecursionError) as error:
            reason = getattr(error, "problem", None) or error
            raise UserError(f"{locations[key]}: {key}: {reason}; a config holds plain values only") from None
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        name = str(key_node.value)
        dotted = f"{key}.{name}" if key else name
        if name in values:
            raise UserError(
                f"{path}:{key_node.start_mark.line + 1}: {dotted}: is set twice (before: {locations[dotted]})"
            )
        values[name] = _construct(value_node, path, dotted, locations)
        locations[dotted] = f"{path}:{key_node.start_mark.line + 1}"
    return values


def parse_value(text: str) -> Any:
    """A value, read as in a file. Raises ValueError or yaml.YAMLError.

    Args:
        text: text of the value.
    """
    return yaml.load(text, Loader=Loader)


def to_yaml(values: Any) -> str:
    """Plain values as YAML that `read_yaml` reads back equal.

    Args:
        values: numbers, texts, lists and mappings.
    """
    text: str = yaml.dump(values, Dumper=Dumper, sort_keys=False, allow_unicode=True)
    return text
