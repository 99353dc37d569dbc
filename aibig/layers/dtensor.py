"""Tensors that may be sharded over ranks (DTensor), and plain ones, handled alike."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def full(tensor: Tensor) -> Tensor:
    """A tensor whole, if it is sharded."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor, if it is sharded; a view."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def placed(whole: Tensor, like: Tensor) -> Tensor:
    """`whole`, which all ranks have, sharded as `like` is."""
    if not hasattr(like, "full_tensor"):
        return whole
    from torch.distributed.tensor import DTensor, Replicate

    sharded: Any = like
    everywhere = [Replicate()] * sharded.device_mesh.ndim
    spread = DTensor.from_local(whole, sharded.device_mesh, everywhere, run_check=False)
    return spread.redistribute(placements=sharded.placements)


def is_sharded(module: nn.Module) -> bool:
    """Whether parameters of `module` are sharded over ranks."""
    return any(hasattr(one, "full_tensor") for one in module.parameters())
