"""torchvision, imported here and nowhere else, so that one that is broken is explained once. Knows no model."""

from __future__ import annotations

import importlib
import importlib.metadata
from types import ModuleType

from aibig.errors import UserError

REINSTALL = "pip install --upgrade --force-reinstall torch torchvision"


def import_torchvision() -> ModuleType:
    """The package torchvision, with its models, datasets and transforms.

    Raises:
        UserError: torchvision is missing, or built for another torch (its import fails with RuntimeError, which
            `importlib.util.find_spec` does not see); with both versions and the pip line.
    """
    try:
        return importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()
        raise UserError(
            f"torchvision {_version('torchvision')} can't be imported beside torch {_version('torch')} "
            f"({reason[0] if reason else type(error).__name__}); install two that belong together: {REINSTALL}"
        ) from None


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
