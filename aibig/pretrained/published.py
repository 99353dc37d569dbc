"""Models published in transformers' format: a folder with config.json and weights. Knows no architecture.

The class of each says what published settings and names mean: `published_settings`, `published_weights`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aibig.config.registry import models
from aibig.config.settings import load
from aibig.data.text.tokenizer import load_tokenizer
from aibig.errors import UserError, nearest
from aibig.generation.language_model import LanguageModel
from aibig.layers.meta import ParametersOnMeta
from aibig.layers.weight_files import PUBLISHED, read_published

CONFIG, OWN = "config.json", "model.json"
READ_AT_ONCE = 1024  # tokens of a window, when a text is measured: GPT-2's context
FREE = ("context", "num_classes")  # what a model may have otherwise than the published one


def load_published(folder: Path) -> nn.Module:
    """The published model in `folder`, in evaluation mode, on the CPU, in fp32. Runs no stored code.

    Raises UserError naming the file if something is missing or damaged, or of a kind that aibig has not.
    """
    name, settings = described(folder)
    try:
        with ParametersOnMeta():
            model: nn.Module = models.create(name, **settings)
    except UserError as error:
        raise UserError(f"{folder / CONFIG}: {error}") from None
    given = published_tensors(model, folder)
    for key, parameter in list(model.named_parameters()):
        refuse_misfit(folder, key, given.get(key), parameter)
        torch.utils.swap_tensors(parameter, nn.Parameter(given[key].float().contiguous()))  # also where it is shared
    return model.eval()


def published_folder(source: str | Path) -> Path | None:
    """The folder of a published model, if `source` is one or its file of weights."""
    path = Path(source)
    folder = path.parent if path.name in PUBLISHED else path
    return folder if (folder / CONFIG).is_file() and not (folder / OWN).is_file() else None


def described(folder: Path) -> tuple[str, dict[str, Any]]:
    """What a published model is called here, and its settings, as its config.json says. Raises UserError."""
    file = folder / CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        kind = config["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: is no description of a published model ({error!r})") from None
    known = {one.model_type: one for one in models.entries().values() if one.model_type}
    if kind not in known:
        there_are = nearest(str(kind), known) or f"; there are: {', '.join(known)}"
        raise UserError(f"{file}: its model_type {kind!r} is none that aibig has{there_are}")
    entry = known[kind]
    made: Any = load(entry.target)
    try:
        settings = made.published_settings(config)
        if any(str(one).endswith("ForSequenceClassification") for one in config.get("architectures") or ()):
            settings["num_classes"] = len(config.get("id2label") or "01")  # two are not written down
        return entry.name, models.check(entry.name, settings)
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise UserError(f"{file}: is damaged, or not of a {kind} ({error!r})") from None
    except UserError as error:
        raise UserError(f"{file}: {str(error).splitlines()[0]}") from None


def published_facts(folder: Path) -> dict[str, Any]:
    """What writing needs beside the weights: the tokenizer, and how much text is read at once to measure it.

    Nothing for a model that does not write. Raises UserError if it has no tokenizer.json.
    """
    name, settings = described(folder)
    writes: Any = issubclass(load(models.entry(name).target), LanguageModel)  # type: ignore[arg-type]
    if not writes or "num_classes" in settings:
        return {}
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    context = min(settings["context"], READ_AT_ONCE)
    return {"predictor": "text", "tokenizer": tokenizer.to_dict(), "context": context}


def settings_for(name: Any, folder: Path) -> dict[str, Any]:
    """The settings of the model `name` that the published one in `folder` decides. Raises UserError for another."""
    found, settings = described(folder)
    if found != name:
        raise UserError(f"{folder}: is a {found}, not a {name}; set model.name={found}")
    return {key: value for key, value in settings.items() if key not in FREE}


def refuse_contradiction(model: nn.Module, folder: Path) -> None:
    """Raise UserError if `model`, made by `create_model`, is otherwise than the published one in `folder`."""
    registered: Any = getattr(model, "registered", {"name": type(model).__name__})
    published = settings_for(registered["name"], folder)
    own = registered["settings"] | model.sized
    if own["vocab_size"] != published["vocab_size"]:
        tokens = f"{published['vocab_size']:,} different tokens, the model {own['vocab_size']:,}"
        raise UserError(f"{folder}: has {tokens}; take its own tokenizer")
    for key, value in published.items():
        if own[key] is not None and own[key] != value:
            raise UserError(f"{folder / CONFIG}: has {key} {value!r}, but the model {own[key]!r}; leave it out there")


def published_tensors(model: nn.Module, folder: Path) -> dict[str, Tensor]:
    """The tensors of a published model by the names that they have in `model`. Raises UserError."""
    return translate(model, read_published(folder), folder)


def translate(model: nn.Module, tensors: dict[str, Tensor], source: Path) -> dict[str, Tensor]:
    """`tensors`, published ones by the names that they have in `model`. Raises UserError naming their `source`."""
    if not hasattr(model, "published_weights"):
        return tensors
    try:
        found: dict[str, Tensor] = model.published_weights(tensors)  # type: ignore[operator]
        return found
    except (UserError, RuntimeError) as error:  # a layer's parts that don't belong together
        raise UserError(f"{source}: {str(error).splitlines()[0]}; it is damaged, or of another model") from None


def refuse_misfit(source: Path, name: str, given: Tensor | None, own: Tensor) -> None:
    """Raise UserError if what `source` gives for the parameter `name` is missing, or of another shape."""
    if given is None:
        raise UserError(f"{source}: has no tensor for {name!r}; it is damaged, or of another kind of model")
    if given.shape != own.shape:
        raise UserError(f"{source}: gives {name!r} the shape {tuple(given.shape)}, but it has {tuple(own.shape)}")
