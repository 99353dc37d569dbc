"""Files with a model's weights, read without running what is stored in them. Knows no model."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from aibig.errors import UserError

SUFFIXES = (".safetensors", ".pt", ".pth")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors by name of a .safetensors file, or of a .pt or .pth file made by `torch.save(model.state_dict())`.

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
