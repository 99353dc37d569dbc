"""The table of contents of the environments: every id of gymnasium, and those that others register. No torch."""

from __future__ import annotations

import copy
import importlib
from functools import partial
from typing import Any

from aibig.errors import UserError
from aibig.registry import Entry

POOL = "aibig.envs.pool:EnvPool"

ENVIRONMENTS: list[Entry] = []


def find(name: str) -> Entry | None:
    """The row of a gymnasium id ("CartPole-v1"), with its class's own constructor as its settings.

    Raises UserError if a package that it needs is missing.
    """
    import gymnasium

    try:
        spec = gymnasium.spec(name)
    except gymnasium.error.Error:
        return None
    where = spec.entry_point if isinstance(spec.entry_point, str) else ""
    try:
        importlib.import_module(where.partition(":")[0] or "gymnasium")
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        raise UserError(f"environment {name!r} needs a package that is not installed: {error}") from None
    make = partial(gymnasium.make, name, disable_env_checker=True)
    return Entry(name, make, family="dqn", into=POOL, signature=where)


def other_names() -> list[str]:
    """The ids that gymnasium knows."""
    import gymnasium

    return list(gymnasium.registry)


def adopt(value: Any, words: str) -> Entry:
    """The row of an environment object, class, or function that returns one, in place of a name.

    Raises UserError for others.
    """
    import gymnasium

    if isinstance(value, gymnasium.Env):
        return Entry(words, partial(another, value, words), into=POOL, signature="aibig.envs:no_settings")
    if callable(value):
        return Entry(words, value, into=POOL)
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
