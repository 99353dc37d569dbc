"""Files with a model's weights, read without running what is stored in them. Knows no model."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from aibig.errors import UserError

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
PUBLISHED = ("model.safetensors", "pytorch_model.bin")  # what published folders call theirs


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors by name of a .safetensors file, or of a .pt, .pth or .bin file that holds a state_dict alone.

    Raises UserError if the file is not there, is damaged or holds something else.
    """
    path = Path(path)
    if not path.is_file() or path.suffix not in SUFFIXES:
        raise UserError(f"{path}: no such file of weights; give a file that ends in {', '.join(SUFFIXES)}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()
        raise UserError(f"{path}: can't be read as weights: {reason[0] if reason else type(error).__name__}") from None
    if isinstance(content, Mapping) and content and all(isinstance(one, Tensor) for one in content.values()):
        return dict(content)
    held = f"{', '.join(map(str, list(content)[:4]))}" if isinstance(content, Mapping) else type(content).__name__
    raise UserError(f"{path}: holds no state_dict ({held}); write one by torch.save(model.state_dict(), ...)")


def read_published(folder: Path) -> dict[str, Tensor]:
    """The tensors by name of a published model's folder: of one file, or of several that an index lists.

    Raises UserError if there is none, or if one is damaged or lacks what the index says of it.
    """
    for name in PUBLISHED:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return read_weights(folder / name)
        if index.is_file():
            return _read_listed(index)
    raise UserError(f"{folder}: holds no weights; there should be a {PUBLISHED[0]}, or {PUBLISHED[0]}.index.json")


def _read_listed(index: Path) -> dict[str, Tensor]:
    """The tensors of the files that an index lists, {"weight_map": {tensor: file}}, all in its own folder."""
    try:
        files: dict[str, str] = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        strange = [file for file in files.values() if Path(file).name != file]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{index}: is damaged ({error!r}); copy it again") from None
    if strange:
        raise UserError(f"{index}: names {strange[0]!r}, which is no file beside it")
    tensors: dict[str, Tensor] = {}
    for file in sorted({*files.values()}):
        tensors |= read_weights(index.with_name(file))
    lacking = [
        f"{file}: has no {name!r}, which {index.name} lists" for name, file in files.items() if name not in tensors
    ]
    if lacking:
        raise UserError(f"{index.with_name(lacking[0])}; copy it again")
    return tensors
