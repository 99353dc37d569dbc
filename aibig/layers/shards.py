"""Tensors that may be sharded over ranks (DTensor), and plain ones, handled alike."""

from __future__ import annotations

from torch import Tensor, nn


def full(tensor: Tensor) -> Tensor:
    """A tensor whole, if it is sharded."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor, if it is sharded; a view."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def is_sharded(module: nn.Module) -> bool:
    """Whether parameters of `module` are sharded over ranks."""
    return any(hasattr(one, "full_tensor") for one in module.parameters())
