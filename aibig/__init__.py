"""aibig: one registry and one trainer for nets, DQN and language models. Importing this imports no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from aibig.comparison import compare
    from aibig.config import Config, describe, load_config
    from aibig.data.stored_transitions import save_transitions
    from aibig.dry_run import check
    from aibig.errors import UserError
    from aibig.evaluation import evaluate
    from aibig.inference.model_folder import load_model, save_model
    from aibig.inference.predictor import generate, load_predictor, play, predict
    from aibig.learning_rate import find_lr
    from aibig.pretrained import finetune
    from aibig.registry import (
        Entry,
        create_model,
        list_models,
        register_dataset,
        register_environment,
        register_model,
        register_task,
    )
    from aibig.repeat import train_seeds
    from aibig.train import train
    from aibig.training.callbacks import Callback
    from aibig.training.trainer import Trainer

_HOMES = {
    "aibig.comparison": ("compare",),
    "aibig.config": ("Config", "describe", "load_config"),
    "aibig.data.stored_transitions": ("save_transitions",),
    "aibig.dry_run": ("check",),
    "aibig.errors": ("UserError",),
    "aibig.evaluation": ("evaluate",),
    "aibig.inference.model_folder": ("load_model", "save_model"),
    "aibig.inference.predictor": ("generate", "load_predictor", "play", "predict"),
    "aibig.pretrained": ("finetune",),
    "aibig.learning_rate": ("find_lr",),
    "aibig.registry": (
        *("Entry", "create_model", "list_models"),
        *("register_dataset", "register_environment", "register_model", "register_task"),
    ),
    "aibig.repeat": ("train_seeds",),
    "aibig.training.callbacks": ("Callback",),
    "aibig.training.trainer": ("Trainer",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Callback",
    "Config",
    "Entry",
    "Trainer",
    "UserError",
    "check",
    "compare",
    "create_model",
    "describe",
    "evaluate",
    "find_lr",
    "finetune",
    "generate",
    "list_models",
    "load_config",
    "load_model",
    "load_predictor",
    "play",
    "predict",
    "register_dataset",
    "register_environment",
    "register_model",
    "register_task",
    "save_model",
    "save_transitions",
    "train",
    "train_seeds",
]


def __getattr__(name: str) -> Any:
    """The public names, imported when first used (PEP 562)."""
    if name == "train":  # a module that can be called
        return importlib.import_module("aibig.train")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'aibig' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
