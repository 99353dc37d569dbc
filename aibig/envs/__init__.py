"""Environments: every id of gymnasium, and those that others register. Knows no model; this module imports no torch."""

from __future__ import annotations

import copy
import importlib
from contextlib import suppress
from functools import partial
from typing import Any

from aibig.config.registry import Entry
from aibig.errors import UserError

POOL, ATARI_POOL = "aibig.envs.pool:EnvPool", "aibig.envs.atari:AtariPool"
ATARI_PREFIX = "ALE/"  # of the ids of its games

ENVIRONMENTS: list[Entry] = []


def find_entry(name: str) -> Entry | None:
    """The entry of a gymnasium id, whose settings are those of the environment's own constructor.

    Args:
        name: the id, such as "CartPole-v1".

    Raises:
        UserError: a package that it needs is not installed, or the id of an Atari game lacks its prefix.
    """
    import gymnasium

    if name.startswith(ATARI_PREFIX):
        return _atari_entry(name)
    try:
        spec = gymnasium.spec(name)
    except gymnasium.error.Error:
        if f"{ATARI_PREFIX}{name}" in other_names():
            raise UserError(f"unknown environment {name!r}; did you mean '{ATARI_PREFIX}{name}'?") from None
        return None
    entry_point: Any = spec.entry_point or ""
    module = entry_point.partition(":")[0] if isinstance(entry_point, str) else ""
    try:
        importlib.import_module(module or "gymnasium")
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        raise UserError(f"environment {name!r} needs a package that is not installed: {error}") from None
    make = partial(gymnasium.make, name, disable_env_checker=True)
    return Entry(name, make, family="dqn", wrapper=POOL, signature=entry_point)


def _atari_entry(name: str) -> Entry | None:
    import gymnasium

    try:
        gymnasium.register_envs(importlib.import_module("ale_py"))
    except ImportError as error:
        raise UserError(f"environment {name!r} needs ale-py: pip install 'aibig[atari]' ({error})") from None
    if name not in gymnasium.registry:
        return None
    return Entry(name, partial(str, name), family="dqn", wrapper=ATARI_POOL, signature="aibig.envs:no_own_settings")


def other_names() -> list[str]:
    """The ids that gymnasium knows, and ale-py's if it is installed."""
    import gymnasium

    with suppress(ImportError):
        gymnasium.register_envs(importlib.import_module("ale_py"))
    return list(gymnasium.registry)


def entry_for_object(value: Any, name: str) -> Entry:
    """The entry of an object in place of a name.

    Args:
        value: an environment, its class, or a function that returns one.
        name: what errors call it.

    Raises:
        UserError: the object is something else.
    """
    import gymnasium

    if isinstance(value, gymnasium.Env):
        return Entry(name, partial(copy_env, value, name), wrapper=POOL, signature="aibig.envs:no_own_settings")
    if callable(value):
        return Entry(name, value, wrapper=POOL)
    raise UserError(f"{name} is no environment; give a gymnasium id, an environment, its class, or a function")


def copy_env(env: Any, name: str) -> Any:
    """Copy an environment: made anew by its spec, else by `copy.deepcopy`.

    Args:
        env: a gymnasium.Env.
        name: what errors call it.

    Raises:
        UserError: neither works.
    """
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
            f"{name} can't be copied ({error}), and training takes several; give its class, or a function that "
            "returns a new one"
        ) from None


def no_own_settings() -> None:
    """Signature of an environment that has no settings of its own."""
