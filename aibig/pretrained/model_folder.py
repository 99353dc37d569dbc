"""A finished model as a folder that stands alone: weights.safetensors and model.json. Knows no task and no trainer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from aibig.config import registry
from aibig.errors import UserError
from aibig.files import read_json, replace_folder, write_text
from aibig.pretrained.published import load_published, published_folder

FORMAT = 1
MODEL_JSON, WEIGHTS = "model.json", "weights.safetensors"


def save_model(
    model: nn.Module,
    folder: str | Path,
    inference_config: dict[str, Any] | None = None,
    weights: dict[str, Tensor] | None = None,
) -> Path:
    """Write a model as a folder. An old folder is replaced once the new one is complete.

    Args:
        model: model that `create_model` created.
        folder: path of the folder.
        inference_config: what inference needs beside the weights, for model.json.
        weights: state dict to write; None: the model's own, which must not be sharded over ranks.

    Returns:
        The folder.

    Raises:
        UserError: the model's class is not registered.
        OSError: the disk is full.
    """
    folder = Path(folder)
    registered = getattr(model, "registered", None)
    if registered is None:
        raise UserError(
            f"a {type(model).__name__} that create_model did not make can't be saved by name; "
            "register its class with aibig.register_model and make it with aibig.create_model"
        )
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    state = model.state_dict() if weights is None else weights
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    save_file(plain, temporary / WEIGHTS, metadata={"format": "pt"})
    described: dict[str, Any] = {"format": FORMAT, **registered, **(inference_config or {})}
    write_text(temporary / MODEL_JSON, json.dumps(described, indent=1, ensure_ascii=False))
    (temporary / WEIGHTS).chmod((temporary / MODEL_JSON).stat().st_mode)  # safetensors lets nobody else read it
    replace_folder(folder, temporary)
    return folder


def load_model(path: str | Path) -> nn.Module:
    """A saved or published model, in evaluation mode, on the CPU. Runs no stored code.

    Args:
        path: a run's folder, its `model` folder, or the folder of a model published in transformers' format
            (config.json and weights), which is loaded in fp32.

    Raises:
        UserError: the folder holds no model that this version can read.
    """
    published = published_folder(path)
    if published is not None:
        return load_published(published)
    folder = model_folder(path)
    contents = read_model_json(folder)
    try:
        model = registry.create_model(contents["name"], **contents["settings"])
    except UserError as error:
        raise UserError(
            f"{folder}: {error}; if {contents['name']!r} is registered by your own code, import that first, or declare "
            "it as an entry point of the group 'aibig'"
        ) from None
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UserError(f"{folder / WEIGHTS}: can't be loaded into {contents['name']!r}: {error}") from None
    assert isinstance(model, nn.Module)
    return model.eval()


def model_folder(path: str | Path) -> Path:
    """The folder with model.json and weights.

    Args:
        path: that folder, or a run's folder.

    Raises:
        UserError: there is no model.
    """
    for folder in (Path(path), Path(path) / "model"):
        if (folder / MODEL_JSON).is_file():
            return folder
    if (Path(path) / "checkpoints").is_dir():
        raise UserError(
            f"{path}: the run has not ended, so it has no model yet; go on with --resume --out {path} "
            "(a lower limit, such as trainer.max_steps=1, ends it with the best model so far)"
        )
    raise UserError(f"{path}: holds no model; give a run's folder, such as runs/digits-0001")


def read_model_json(folder: Path) -> dict[str, Any]:
    """The contents of model.json: format, name and settings of the model, and the inference config.

    Args:
        folder: folder of model.json.

    Raises:
        UserError: the file is damaged, or of another version's format.
    """
    try:
        contents: dict[str, Any] = read_json(folder / MODEL_JSON)
        if contents["format"] != FORMAT:
            raise UserError(
                f"{folder / MODEL_JSON}: has format {contents['format']}, but this version of aibig reads {FORMAT}; "
                "install the version that wrote it"
            )
        return contents
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{folder / MODEL_JSON}: is damaged ({error}); save or copy the model again") from None


def inference_device() -> torch.device:
    """The device of predictions: CUDA if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
