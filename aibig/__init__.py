"""aibig: one registry and one trainer for nets, DQN and language models. Importing this imports no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from aibig.config.describe import describe as describe
    from aibig.config.registry import (
        Entry as Entry,
    )
    from aibig.config.registry import (
        create_model as create_model,
    )
    from aibig.config.registry import (
        list_models as list_models,
    )
    from aibig.config.registry import (
        register_dataset as register_dataset,
    )
    from aibig.config.registry import (
        register_environment as register_environment,
    )
    from aibig.config.registry import (
        register_model as register_model,
    )
    from aibig.config.registry import (
        register_task as register_task,
    )
    from aibig.config.run_config import Config as Config
    from aibig.config.run_config import load_config as load_config
    from aibig.data.replay.transition_files import save_transitions as save_transitions
    from aibig.errors import UserError as UserError
    from aibig.inference.predictor import (
        generate as generate,
    )
    from aibig.inference.predictor import (
        load_predictor as load_predictor,
    )
    from aibig.inference.predictor import (
        play as play,
    )
    from aibig.inference.predictor import (
        predict as predict,
    )
    from aibig.pretrained.finetune import finetune as finetune
    from aibig.pretrained.model_folder import load_model as load_model
    from aibig.pretrained.model_folder import save_model as save_model
    from aibig.runs.compare import compare as compare
    from aibig.runs.dry_run import check as check
    from aibig.runs.evaluate import evaluate as evaluate
    from aibig.runs.find_lr import find_lr as find_lr
    from aibig.runs.seeds import train_seeds as train_seeds
    from aibig.runs.train import train as train
    from aibig.training.callbacks import Callback as Callback
    from aibig.training.trainer import Trainer as Trainer

_HOMES = {
    "aibig.config.describe": ["describe"],
    "aibig.config.registry": [
        *("Entry", "create_model", "list_models"),
        *("register_dataset", "register_environment", "register_model", "register_task"),
    ],
    "aibig.config.run_config": ["Config", "load_config"],
    "aibig.data.replay.transition_files": ["save_transitions"],
    "aibig.errors": ["UserError"],
    "aibig.inference.predictor": ["generate", "load_predictor", "play", "predict"],
    "aibig.pretrained.finetune": ["finetune"],
    "aibig.pretrained.model_folder": ["load_model", "save_model"],
    "aibig.runs.compare": ["compare"],
    "aibig.runs.dry_run": ["check"],
    "aibig.runs.evaluate": ["evaluate"],
    "aibig.runs.find_lr": ["find_lr"],
    "aibig.runs.seeds": ["train_seeds"],
    "aibig.runs.train": ["train"],
    "aibig.training.callbacks": ["Callback"],
    "aibig.training.trainer": ["Trainer"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    """The public names, imported when first used (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'aibig' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
