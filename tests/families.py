"""A small run of each family, for tests that enumerate them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aibig.cli import main

REVIEWS = Path(__file__).with_name("reviews.tsv")  # made-up sentences; the last word decides their label
TRAINER = {"threads": 1, "log_every": 10, "eval_every": 20, "save_every": 1_000}

NETS: dict[str, Any] = {
    "model": {"name": "net", "hidden": 16, "dropout": 0.1},
    "task": {"name": "classification"},
    "data": {"name": "digits", "batch_size": 32},
    "optimizer": {"name": "adamw", "lr": 3e-3},
    "schedule": {"name": "cosine", "warmup_steps": 5},
    "trainer": {**TRAINER, "max_steps": 60, "ema_decay": 0.9},
}
REGRESSION: dict[str, Any] = {
    "model": {"name": "net", "hidden": [16, 8]},
    "task": {"name": "regression"},
    "data": {"name": "diabetes", "batch_size": 32},
    "optimizer": {"name": "sgd", "lr": 0.01},
    "trainer": {**TRAINER, "max_steps": 60},
}
LSTM: dict[str, Any] = {
    "model": {"name": "lstm", "embedding": 8, "hidden": 16, "dropout": 0.1},
    "task": {"name": "language_modelling"},
    "data": {"name": "python_docs", "batch_size": 4, "context": 16, "order": "stream"},
    "optimizer": {"name": "adamw", "lr": 1e-2},
    "trainer": {**TRAINER, "max_steps": 60, "clip_norm": 1.0},
}
TRANSFORMER: dict[str, Any] = {
    "model": {"name": "transformer", "width": 16, "layers": 2, "heads": 2, "dropout": 0.1},
    "task": {"name": "language_modelling"},
    "data": {"name": "python_docs", "batch_size": 4, "context": 16},
    "optimizer": {"name": "adamw", "lr": 3e-3},
    "trainer": {**TRAINER, "max_steps": 60, "accumulate": 2},
}
MASKED: dict[str, Any] = {
    "model": {"name": "bert", "width": 16, "layers": 1, "heads": 2, "dropout": 0.1},
    "task": {"name": "masked_language_modelling"},
    "data": {"name": "python_docs", "batch_size": 4, "context": 16},
    "optimizer": {"name": "muon", "lr": 3e-3},
    "trainer": {**TRAINER, "max_steps": 60},
}
TEXTS: dict[str, Any] = {
    "model": {"name": "lstm", "embedding": 8, "hidden": 16, "layers": 1, "dropout": 0.1, "word_dropout": 0.1},
    "task": {"name": "text_classification"},
    "data": {"name": "text_labels", "path": str(REVIEWS), "batch_size": 16},
    "optimizer": {"name": "adamw", "lr": 1e-2},
    "trainer": {**TRAINER, "max_steps": 60},
}
DQN: dict[str, Any] = {
    "model": {"name": "dqn"},
    "task": {
        "name": "q_learning",
        "learning_starts": 100,
        "env_steps_per_update": 2,
        "target_update_interval": 7,
        "n_step": 3,
        "epsilon_env_steps": 200,
        "exploration_exponent": 2.0,
        "validation_episodes": 2,
        "test_episodes": 3,
    },
    "env": {"name": "CartPole-v1", "count": 3},
    "data": {"name": "replay", "capacity": 150, "batch_size": 16},
    "optimizer": {"name": "adam"},
    "trainer": {**TRAINER, "max_steps": 60},
}

FAMILIES = {
    "nets": NETS,
    "regression": REGRESSION,
    "lstm": LSTM,
    "transformer": TRANSFORMER,
    "masked": MASKED,
    "texts": TEXTS,
    "dqn": DQN,
}


def train_command(words: Sequence[str]) -> int:
    """The exit code of `aibig train` with these arguments."""
    return main(["train", *words])
