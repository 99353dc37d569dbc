"""How a type of model is published: what config.json says and what tensors are called. Knows no type, reads no file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from aibig.errors import UserError

ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh"}
SUFFIXES = {"weight": ("weight", "gamma"), "bias": ("bias", "beta")}  # the latter in files converted from TensorFlow


@dataclass(frozen=True)
class PublishedFormat:
    """How models of one type are published in transformers' format. A row of the models table names it (`published`).

    Args:
        settings: config.json's contents -> settings of the model here.
        layers: layer of the model here -> the published one, or several whose rows it concatenates, in their order.
            N stands for a block's number, "a|b" for a or b.
        prefix: of published tensor names; some files leave it out.
        supported: key of config.json -> values that the model here computes with, the default of a missing key first.
        transform: published name, tensor and settings of the model -> the tensor in the layout that it has here.
    """

    settings: Callable[[Mapping[str, Any]], dict[str, Any]]
    layers: Mapping[str, str | tuple[str, ...]]
    prefix: str = ""
    supported: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    transform: Callable[[str, Tensor, Mapping[str, Any]], Tensor] = lambda name, tensor, settings: tensor

    def read_settings(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that the model here needs to compute as the published one.

        Args:
            config: the contents of config.json.

        Raises:
            UserError: it asks for what is not supported.
        """
        for key, values in self.supported.items():
            if config.get(key, values[0]) not in values:
                raise UserError(f"{key} {config[key]!r} is not supported")
        return self.settings(config)

    def translate(self, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Tensor]:
        """The tensors by their published names, and those of `layers` also by the names here.

        Args:
            tensors: as published, by name.
            settings: of the model here, with what its size decides.

        Raises:
            UserError: a layer that is concatenated of several lacks one of them.
        """
        result = {name: self.transform(name, tensor, settings) for name, tensor in tensors.items()}
        published = {name.removeprefix(self.prefix): tensor for name, tensor in result.items()}
        for layer, parts in self._layers_of(published):
            for kind, suffixes in SUFFIXES.items():
                candidates = [[f"{name}.{suffix}" for name in part.split("|") for suffix in suffixes] for part in parts]
                found = [next((name for name in names if name in published), "") for names in candidates]
                if all(found):
                    values = [published[name] for name in found]
                    result[f"{layer}.{kind}"] = torch.cat(values) if len(values) > 1 else values[0]
                elif any(found):
                    raise UserError(f"has no {parts[found.index('')]}.{kind}")
        return result

    def _layers_of(self, published: Mapping[str, Tensor]) -> Iterator[tuple[str, list[str]]]:
        """Each layer here and the published ones that it is made of, for every block in the file."""
        blocks = sorted({match[1] for name in published if (match := re.search(r"\.(\d+)\.", name))})
        for layer, parts in self.layers.items():
            for block in blocks if ".N." in layer else [""]:
                names = [parts] if isinstance(parts, str) else parts
                yield layer.replace(".N.", f".{block}."), [name.replace(".N.", f".{block}.") for name in names]


def read_activation(published: str) -> str:
    """The name here of a published activation function.

    Args:
        published: its name in config.json.

    Raises:
        UserError: it is not supported.
    """
    if published not in ACTIVATIONS:
        raise UserError(f"activation {published!r} is not supported (supported: {', '.join(ACTIVATIONS)})")
    return ACTIVATIONS[published]
