"""Weight files, read without running code that is stored in them. Knows no model."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from aibig.errors import UserError
from aibig.files import read_json

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
PUBLISHED_FILES = ("model.safetensors", "pytorch_model.bin")  # as they are named in the folders of published models


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The state_dict of a .safetensors file, or of a .pt, .pth or .bin file that contains nothing else.

    Args:
        path: of the file.

    Raises:
        UserError: there is no such file, or it is damaged or contains something else.
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
    if isinstance(content, Mapping) and content and all(isinstance(value, Tensor) for value in content.values()):
        return dict(content)
    found = ", ".join(map(str, list(content)[:4])) if isinstance(content, Mapping) else type(content).__name__
    raise UserError(f"{path}: holds no state_dict ({found}); write one by torch.save(model.state_dict(), ...)")


def read_published_weights(folder: Path) -> dict[str, Tensor]:
    """The state_dict of a published model's folder, from one file or from several that an index lists.

    Args:
        folder: in the layout of the Hugging Face Hub.

    Raises:
        UserError: there is no weight file, or one is damaged or lacks tensors that the index lists.
    """
    for name in PUBLISHED_FILES:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return read_weights(folder / name)
        if index.is_file():
            return _read_sharded(index)
    raise UserError(
        f"{folder}: holds no weights; there should be a {PUBLISHED_FILES[0]}, or {PUBLISHED_FILES[0]}.index.json"
    )


def _read_sharded(index: Path) -> dict[str, Tensor]:
    """The tensors of the files that an index lists, {"weight_map": {tensor: file}}, all in the index's folder."""
    try:
        files: dict[str, str] = dict(read_json(index)["weight_map"])
        outside = [file for file in files.values() if Path(file).name != file]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{index}: is damaged ({error!r}); copy it again") from None
    if outside:
        raise UserError(f"{index}: names {outside[0]!r}, which is no file beside it")
    tensors: dict[str, Tensor] = {}
    for file in sorted({*files.values()}):
        tensors |= read_weights(index.with_name(file))
    for name, file in files.items():
        if name not in tensors:
            raise UserError(f"{index.with_name(file)}: has no {name!r}, which {index.name} lists; copy it again")
    return tensors
