"""Describes what a config can name: settings, defaults, documentation. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from aibig.config.docstrings import without_parameters
from aibig.config.registry import SECTIONS
from aibig.config.run_config import UNNAMED_SECTIONS, shipped_configs
from aibig.config.settings import REQUIRED, Setting, documentation, read_settings, type_description
from aibig.errors import UserError, nearest

MAX_CHARACTERS = 4_000  # of a docstring; other packages' may be longer


@dataclass
class Description:
    """The description of a model, task, ....

    Args:
        settings: name of a setting -> the values that it "takes", its "default", and the text "about" it.
        documentation: docstring without its section `Args:`.
    """

    settings: dict[str, dict[str, str]]
    documentation: str


def describe(name: str) -> dict[str, Description]:
    """Describe what a config can name.

    Args:
        name: name of a model, dataset, environment (also a gymnasium id), task, optimizer or schedule, or "trainer" or
            "finetune".

    Returns:
        Descriptions by kind and name, such as "model 'net'"; several if different kinds have the same name.

    Raises:
        UserError: the name is unknown; the error has the nearest.
    """
    descriptions: dict[str, Description] = {}
    if name in UNNAMED_SECTIONS:
        target = UNNAMED_SECTIONS[name]
        descriptions[f"section {name!r}"] = _description(read_settings(target), [target])
    names = {registry.kind: registry.names(others=registry.kind != "environment") for registry in SECTIONS.values()}
    owners = [registry for registry in SECTIONS.values() if name in names[registry.kind]]
    if not descriptions and not owners and name in SECTIONS["env"]:  # last, since it takes importing gymnasium
        owners = [SECTIONS["env"]]
    for registry in owners:
        entry = registry.entry(name)
        targets = [entry.signature or entry.target, *([entry.wrapper] if entry.wrapper else [])]
        descriptions[f"{registry.kind} {name!r}"] = _description(registry.settings(name), targets)
    if not descriptions:
        known = [*UNNAMED_SECTIONS, *chain(*names.values())]
        raise UserError(f"nothing is named {name!r}{nearest(name, known) or '; aibig describe lists what is'}")
    return descriptions


def all_names() -> dict[str, list[str]]:
    """The names by kind, without the ids of other packages; and the configs that come with aibig."""
    return {
        **{f"{registry.kind}s": registry.names() for registry in SECTIONS.values() if registry.names()},
        "sections": [*UNNAMED_SECTIONS],
        "configs": [*shipped_configs()],
    }


def _description(settings: Mapping[str, Setting], targets: Iterable[Any]) -> Description:
    texts = [without_parameters(documentation(target)) for target in targets]
    shown = [text if len(text) < MAX_CHARACTERS else _first_paragraph(text) for text in texts if text]
    return Description({name: _in_words(setting) for name, setting in settings.items()}, "\n\n".join(shown))


def _first_paragraph(text: str) -> str:
    return next((paragraph for paragraph in text.split("\n\n") if not paragraph.startswith("#")), "")


def _in_words(setting: Setting) -> dict[str, str]:
    default = "" if setting.default is REQUIRED else "null" if setting.default is None else str(setting.default)
    takes = type_description(setting.annotation)
    return {"takes": takes, "default": default or "(needed)", "about": setting.about}
