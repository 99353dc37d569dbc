"""The one place that imports torchvision, which takes a second and may not fit the torch that is installed."""

from __future__ import annotations

from typing import Any

from aibig.errors import UserError


def import_torchvision() -> Any:
    """The module torchvision. Raises UserError with what mends it if it can't be imported."""
    try:
        import torchvision
    except (ImportError, RuntimeError) as error:  # RuntimeError: it was built for another torch
        raise UserError(f"torchvision can't be imported ({error}); install the one that fits torch") from None
    return torchvision
