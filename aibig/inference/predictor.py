"""The predictor of a model folder, by the kind of input that it was trained on. Knows no task and no trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aibig.errors import UserError
from aibig.inference.model_folder import load_model, model_folder, read_facts
from aibig.settings import load

PREDICTORS = {  # what a task calls it -> its class, and the command that it is for
    "rows": ("aibig.inference.rows:RowsPredictor", "predict"),
    "images": ("aibig.inference.images:ImagesPredictor", "predict"),
    "texts": ("aibig.inference.texts:TextsPredictor", "predict"),
    "text": ("aibig.inference.text:TextGenerator", "generate"),
    "player": ("aibig.inference.player:Player", "play"),
}


def load_predictor(path: str | Path, kind: str | None = None) -> Any:
    """The predictor of the run, or model folder, at `path`: its class is one of PREDICTORS.

    Raises UserError if there is none, or if it is not of the `kind` that was asked for.
    """
    folder = model_folder(path)
    facts = read_facts(folder)
    found = facts.get("predictor")
    if found not in PREDICTORS:
        raise UserError(f"{folder}: this model was saved without what prediction needs; use aibig.load_model")
    target, command = PREDICTORS[found]
    if kind is not None and found != kind:
        raise UserError(f"{folder}: a model of {found} can't do that; use: aibig {command} {path}")
    return load(target)(load_model(folder), facts)
