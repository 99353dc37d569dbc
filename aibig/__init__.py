"""aibig: one registry and one trainer for nets, DQN and language models. Importing this imports no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from aibig.config.describe import describe
    from aibig.config.registry import (
        Entry,
        create_model,
        list_models,
        register_dataset,
        register_environment,
        register_model,
        register_task,
    )
    from aibig.config.run_config import Config, load_config
    from aibig.data.replay.transition_files import save_transitions
    from aibig.errors import UserError
    from aibig.inference.predictor import generate, load_predictor, play, predict
    from aibig.pretrained.finetune import finetune
    from aibig.pretrained.model_folder import load_model, save_model
    from aibig.runs.compare import compare
    from aibig.runs.dry_run import check
    from aibig.runs.evaluate import evaluate
    from aibig.runs.find_lr import find_lr
    from aibig.runs.seeds import train_seeds
    from aibig.runs.train import train
    from aibig.training.callbacks import Callback
    from aibig.training.trainer import Trainer

_HOMES = {
    "aibig.runs.compare": ("compare",),
    "aibig.config.describe": ("describe",),
    "aibig.config.run_config": ("Config", "load_config"),
    "aibig.data.replay.transition_files": ("save_transitions",),
    "aibig.runs.dry_run": ("check",),
    "aibig.errors": ("UserError",),
    "aibig.runs.evaluate": ("evaluate",),
    "aibig.pretrained.model_folder": ("load_model", "save_model"),
    "aibig.inference.predictor": ("generate", "load_predictor", "play", "predict"),
    "aibig.pretrained.finetune": ("finetune",),
    "aibig.runs.find_lr": ("find_lr",),
    "aibig.config.registry": (
        *("Entry", "create_model", "list_models"),
        *("register_dataset", "register_environment", "register_model", "register_task"),
    ),
    "aibig.runs.seeds": ("train_seeds",),
    "aibig.runs.train": ("train",),
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
    if name not in _HOME_OF:
        raise AttributeError(f"module 'aibig' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
