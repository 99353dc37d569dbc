"""Published models' tensors by the names that they have here. Knows no model and reads no file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from aibig.errors import UserError

Names = Mapping[str, str | tuple[str, ...]]
"""Our layer -> the published one, or those that are joined in it, in their order. N: a block's number; a|b: a or b."""

ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh"}


def translated(tensors: Mapping[str, Tensor], names: Names, *, prefix: str = "") -> dict[str, Tensor]:
    """`tensors`, and those of the layers in `names` also by our names. prefix: of published names; some lack it.

    Raises UserError if one of those that are joined is missing.
    """
    given = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    made = dict(tensors)
    for ours, published in _in_every_block(names, given):
        for kind in ("weight", "bias"):
            found = [
                next((f"{one}.{kind}" for one in part.split("|") if f"{one}.{kind}" in given), "") for part in published
            ]
            if any(found):
                if not all(found):
                    raise UserError(f"has no {published[found.index('')]}.{kind}")
                made[f"{ours}.{kind}"] = torch.cat([given[one] for one in found]) if found[1:] else given[found[0]]
    return made


def _in_every_block(names: Names, given: Mapping[str, Tensor]) -> Iterator[tuple[str, list[str]]]:
    """Our layer and its published parts, N being the number of each block that there is."""
    blocks = sorted({found[1] for name in given if (found := re.search(r"\.(\d+)\.", name))})
    for ours, published in names.items():
        parts = [published] if isinstance(published, str) else published
        for block in blocks if ".N." in ours else [""]:
            yield ours.replace(".N.", f".{block}."), [one.replace(".N.", f".{block}.") for one in parts]


def activation_of(published: str) -> str:
    """Our name of a published activation. Raises UserError for one that is not to be had here."""
    if published not in ACTIVATIONS:
        raise UserError(f"the activation {published!r} is not to be had here; there are: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[published]
