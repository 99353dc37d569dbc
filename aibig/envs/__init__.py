"""The table of contents of the environments: every id of gymnasium, and those that others register. No torch."""

from __future__ import annotations

import copy
import importlib
from contextlib import suppress
from functools import partial
from typing import Any

from aibig.config.registry import Entry
from aibig.errors import UserError

POOL, ATARI_POOL = "aibig.envs.pool:EnvPool", "aibig.envs.atari:AtariPool"
ATARI = "ALE/"  # what the ids of its games begin with

ENVIRONMENTS: list[Entry] = []


def find_entry(name: str) -> Entry | None:
    """The row of a gymnasium id ("CartPole-v1"), with its class's own constructor as its settings.

    Raises UserError if a package that it needs is missing, and for a game of Atari's without what its id begins with.
    """
    import gymnasium

    if name.startswith(ATARI):
        return _atari(name)
    try:
        spec = gymnasium.spec(name)
    except gymnasium.error.Error:
        if f"{ATARI}{name}" in other_names():
            raise UserError(f"unknown environment {name!r}; did you mean '{ATARI}{name}'?") from None
        return None
    where: Any = spec.entry_point or ""
    try:
        importlib.import_module(where.partition(":")[0] if isinstance(where, str) and where else "gymnasium")
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        raise UserError(f"environment {name!r} needs a package that is not installed: {error}") from None
    make = partial(gymnasium.make, name, disable_env_checker=True)
    return Entry(name, make, family="dqn", wrapper=POOL, signature=where)


def _atari(name: str) -> Entry | None:
    """The row of a game of ale-py, "ALE/Pong-v5". Raises UserError if that is not installed."""
    import gymnasium

    try:
        gymnasium.register_envs(importlib.import_module("ale_py"))
    except ImportError as error:
        raise UserError(f"environment {name!r} needs ale-py: pip install 'aibig[atari]' ({error})") from None
    if name not in gymnasium.registry:
        return None
    return Entry(name, partial(str, name), family="dqn", wrapper=ATARI_POOL, signature="aibig.envs:no_settings")


def other_names() -> list[str]:
    """The ids that gymnasium knows, and ale-py's if it is there."""
    import gymnasium

    with suppress(ImportError):
        gymnasium.register_envs(importlib.import_module("ale_py"))
    return list(gymnasium.registry)


def entry_for_object(value: Any, words: str) -> Entry:
    """The row of an environment object, class, or function that returns one, in place of a name.

    Raises UserError for others.
    """
    import gymnasium

    if isinstance(value, gymnasium.Env):
        return Entry(words, partial(another, value, words), wrapper=POOL, signature="aibig.envs:no_settings")
    if callable(value):
        return Entry(words, value, wrapper=POOL)
    raise UserError(f"{words} is no environment; give a gymnasium id, an environment, its class, or a function")


def another(env: Any, words: str) -> Any:
    """One more of `env`: made anew by its spec, else a copy. Raises UserError where neither works."""
    import gymnasium

    try:
        if env.spec is not None:
            return gymnasium.make(env.spec, disable_env_checker=True)
    except Exception:  # a wrapper that keeps no record of its arguments, an entry point that is gone
        pass
    try:
        return copy.deepcopy(env)
    except Exception as error:
        raise UserError(
            f"{words} can't be copied ({error}), and training takes several; give its class, or a function that "
            "returns a new one"
        ) from None


def no_settings() -> None:
    """The settings of an environment that is made already."""
