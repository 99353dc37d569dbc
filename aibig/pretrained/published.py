"""Models published in transformers' format: a folder with config.json and weights. Knows no architecture.

Rows of the models table name the format of each model type (`model_type`, `published`), see aibig.pretrained.formats.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aibig.config.registry import Entry, models
from aibig.config.settings import import_object
from aibig.data.text.tokenizer import load_tokenizer
from aibig.errors import UserError, nearest
from aibig.files import read_json
from aibig.generation.language_model import LanguageModel
from aibig.layers.utils.meta import ParametersOnMeta
from aibig.layers.utils.weight_files import PUBLISHED_FILES, read_published_weights
from aibig.pretrained.formats.base import PublishedFormat

CONFIG, MODEL_JSON = "config.json", "model.json"
MAX_EVALUATION_CONTEXT = 1024  # tokens of a window in which a text is evaluated: GPT-2's context
MAY_DIFFER = ("context", "num_classes")  # settings that a model may have otherwise than the published one


def load_published(folder: Path) -> nn.Module:
    """A published model, in evaluation mode, on the CPU, in fp32. Runs no stored code.

    Args:
        folder: with config.json and weights.

    Raises:
        UserError: a file, which is named, is missing, damaged, or of a model type that is not supported.
    """
    entry, settings = read_config(folder)
    try:
        with ParametersOnMeta():
            model: nn.Module = models.create(entry.name, **settings)
    except UserError as error:
        raise UserError(f"{folder / CONFIG}: {error}") from None
    state_dict = translate(model, read_published_weights(folder), folder)
    for name, parameter in list(model.named_parameters()):
        check_tensor(folder, name, state_dict.get(name), parameter)
        torch.utils.swap_tensors(parameter, nn.Parameter(state_dict[name].float().contiguous()))  # also where shared
    return model.eval()


def published_folder(source: str | Path) -> Path | None:
    """The folder of a published model; None for what is none.

    Args:
        source: that folder, or its file of weights.
    """
    path = Path(source)
    folder = path.parent if path.name in PUBLISHED_FILES else path
    return folder if (folder / CONFIG).is_file() and not (folder / MODEL_JSON).is_file() else None


def read_config(folder: Path) -> tuple[Entry, dict[str, Any]]:
    """The row of a published model in the models table, and its settings.

    Args:
        folder: with config.json.

    Raises:
        UserError: config.json is damaged, or asks for what is not supported.
    """
    file = folder / CONFIG
    try:
        config = read_json(file)
        model_type = config["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: does not describe a published model ({error!r})") from None
    supported = {entry.model_type: entry for entry in models.entries().values() if entry.published}
    if model_type not in supported:
        hint = nearest(str(model_type), supported) or f"; there are: {', '.join(supported)}"
        raise UserError(f"{file}: model_type {model_type!r} is not supported{hint}")
    entry = supported[model_type]
    try:
        settings = format_of(entry).read_settings(config)
        if any(str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or ()):
            settings["num_classes"] = len(config.get("id2label") or "01")  # two are not written down
        return entry, models.check(entry.name, settings)
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise UserError(f"{file}: is damaged, or not of model_type {model_type!r} ({error!r})") from None
    except UserError as error:
        raise UserError(f"{file}: {str(error).splitlines()[0]}") from None


def format_of(entry: Entry) -> PublishedFormat:
    """The published format of a row.

    Args:
        entry: a row of the models table with `published`.
    """
    published: Any = import_object(entry.published)
    assert isinstance(published, PublishedFormat)
    return published


def published_inference_config(folder: Path) -> dict[str, Any]:
    """The inference config of a published model: the tokenizer, and the context in which a text is evaluated.

    It is empty for a model that does not generate text.

    Args:
        folder: of a published model.

    Raises:
        UserError: there is no tokenizer.json.
    """
    entry, settings = read_config(folder)
    generates: Any = issubclass(import_object(entry.target), LanguageModel)  # type: ignore[arg-type]
    if not generates or "num_classes" in settings:
        return {}
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    context = min(settings["context"], MAX_EVALUATION_CONTEXT)
    return {"predictor": "text_generator", "tokenizer": tokenizer.to_dict(), "context": context}


def required_settings(name: Any, folder: Path) -> dict[str, Any]:
    """The settings that a model must have to start from a published one.

    Args:
        name: of the model, in the models table.
        folder: of the published model.

    Raises:
        UserError: the published model is another.
    """
    entry, settings = read_config(folder)
    if entry.name != name:
        raise UserError(f"{folder}: holds a {entry.name}, not a {name}; set model.name={entry.name}")
    return {key: value for key, value in settings.items() if key not in MAY_DIFFER}


def check_settings(model: nn.Module, folder: Path) -> None:
    """Raise UserError if a model's settings are not those of a published one.

    Args:
        model: made by `create_model`.
        folder: of the published model.
    """
    registered: Any = getattr(model, "registered", {"name": type(model).__name__})
    required = required_settings(registered["name"], folder)
    settings = _settings_of(model)
    if settings["vocab_size"] != required["vocab_size"]:
        sizes = f"{required['vocab_size']:,} tokens, but the model's has {settings['vocab_size']:,}"
        raise UserError(f"{folder}: its vocabulary has {sizes}; use its own tokenizer")
    for key, value in required.items():
        if settings[key] is not None and settings[key] != value:
            raise UserError(f"{folder / CONFIG}: has {key} {value!r}, but the model {settings[key]!r}; leave {key} out")


def translate(model: nn.Module, tensors: dict[str, Tensor], source: Path) -> dict[str, Tensor]:
    """Published tensors by a model's names and in its layout; tensors that already have its names stay.

    Args:
        model: that they are for.
        tensors: by name, as published or as the model's own.
        source: the file or folder that they are from, for errors.

    Raises:
        UserError: a layer that is concatenated of several lacks one of them.
    """
    registered: Any = getattr(model, "registered", None)
    if registered is None or not models.entry(registered["name"]).published:
        return tensors
    try:
        return format_of(models.entry(registered["name"])).translate(tensors, _settings_of(model))
    except (UserError, RuntimeError) as error:  # parts of a layer whose shapes don't fit
        raise UserError(f"{source}: {str(error).splitlines()[0]}; it is damaged, or of another model") from None


def check_tensor(source: Path, name: str, tensor: Tensor | None, parameter: Tensor) -> None:
    """Raise UserError if a tensor is missing, or has another shape than the parameter that it is for.

    Args:
        source: the file or folder that it is from.
        name: of the parameter.
        tensor: to be loaded; None if there is none.
        parameter: of the model.
    """
    if tensor is None:
        raise UserError(f"{source}: has no tensor for {name!r}; it is damaged, or of another kind of model")
    if tensor.shape != parameter.shape:
        shapes = f"{tuple(tensor.shape)}, but the model's has {tuple(parameter.shape)}"
        raise UserError(f"{source}: {name!r} has the shape {shapes}; weights and settings must be of the same model")


def _settings_of(model: nn.Module) -> dict[str, Any]:
    """The settings that `model` was created with, those that its size decided included."""
    registered: Any = model.registered
    settings: dict[str, Any] = registered["settings"] | getattr(model, "size_settings", {})
    return settings
