"""The table of contents of the environments: every id of gymnasium, and those that others register. No torch."""

from __future__ import annotations

import importlib
from functools import partial

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
