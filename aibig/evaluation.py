"""A finished run's model, measured again on its own data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aibig.config import load_config
from aibig.errors import UserError


def evaluate(path: str | Path, *, split: str = "test") -> dict[str, float]:
    """The metrics of the exported model of the run at `path` on "validation" or "test", as training ended with.

    Raises UserError if the run has not ended, or its data are gone.
    """
    config_file = Path(path) / "config.yaml"
    if not config_file.is_file():
        raise UserError(f"{path}: holds no run (no config.yaml); give a run's folder, such as runs/digits-0001")
    config = load_config(config_file, {"trainer.device": "auto"})  # it may have been another machine's
    config.weights_follow = True
    from aibig.inference.model_folder import load_model
    from aibig.train import build

    model: Any = load_model(path)
    trainer, task = build(config)
    task.model.load_state_dict(model.state_dict())
    return trainer.evaluate(task, split)
