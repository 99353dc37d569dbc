"""Models that come in sizes: a size decides some settings, unless they are given. Knows no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def sized(size: Mapping[str, Any], **given: Any) -> dict[str, Any]:
    """The settings `given`, and instead of None what the size says, if it does."""
    return {name: size.get(name) if value is None else value for name, value in given.items()}
