"""What a config can name, in words: settings, their defaults, what their author says of them. Knows no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aibig.config.registry import SECTIONS
from aibig.config.run_config import OWN_SETTINGS, shipped_configs
from aibig.config.settings import REQUIRED, Setting, documentation, read_settings
from aibig.config.settings import describe as describe_annotation
from aibig.errors import UserError, nearest

LONGEST_ABOUT = 4_000  # characters of a docstring


@dataclass
class Described:
    """What a config can name: each setting's default and what it takes, in words, and what its author says of it."""

    settings: dict[str, dict[str, str]]
    about: str


def describe(name: str) -> dict[str, Described]:
    """Whatever a config can name `name`, an environment's id too, or "trainer" or "finetune": what it is -> the rest.

    Raises UserError with the nearest names.
    """
    found: dict[str, Described] = {}
    if name in OWN_SETTINGS:
        found[f"section {name!r}"] = _described(read_settings(OWN_SETTINGS[name]), OWN_SETTINGS[name])
    names = {registry.kind: registry.names(others=registry.kind != "environment") for registry in SECTIONS.values()}
    owners = [registry for registry in SECTIONS.values() if name in names[registry.kind]]
    if not found and not owners and SECTIONS["env"].knows(name):  # last, since it takes importing gymnasium
        owners = [SECTIONS["env"]]
    for registry in owners:
        entry = registry.entry(name)
        parts = [entry.signature or entry.target, *([entry.wrapper] if entry.wrapper else [])]
        found[f"{registry.kind} {name!r}"] = _described(registry.settings(name), *parts)
    if not found:
        known = [*OWN_SETTINGS, *(one for some in names.values() for one in some)]
        raise UserError(f"nothing is named {name!r}{nearest(name, known) or '; aibig describe lists what is'}")
    return found


def all_names() -> dict[str, list[str]]:
    """What a config can name, by kind, without the ids of other packages; and the configs that come with aibig."""
    return {
        **{f"{registry.kind}s": registry.names() for registry in SECTIONS.values() if registry.names()},
        "sections": [*OWN_SETTINGS],
        "configs": [*shipped_configs()],
    }


def _described(settings: Mapping[str, Setting], *targets: Any) -> Described:
    texts = [text for text in map(documentation, targets) if text]
    about = [text if len(text) < LONGEST_ABOUT else text.split("\n\n")[0] for text in texts]  # others write manuals
    return Described({key: _in_words(one) for key, one in settings.items()}, "\n\n".join(about))


def _in_words(setting: Setting) -> dict[str, str]:
    default = "" if setting.default is REQUIRED else "null" if setting.default is None else str(setting.default)
    return {"takes": describe_annotation(setting.annotation), "default": default or "(needed)"}
