"""Models that come in sizes: a size decides the settings that are not set. Knows no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def with_size_defaults(size: Mapping[str, Any], **settings: Any) -> dict[str, Any]:
    """The settings, with the size's values instead of None.

    Args:
        size: setting -> value that the size decides.
        settings: as they were set; None where the size decides.
    """
    return {name: size.get(name) if value is None else value for name, value in settings.items()}
