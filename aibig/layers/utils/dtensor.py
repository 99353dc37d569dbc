"""Plain tensors and tensors that are sharded over ranks (DTensor), handled alike."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def full_tensor(tensor: Tensor) -> Tensor:
    """The whole tensor.

    Args:
        tensor: plain or sharded.
    """
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def to_local(tensor: Tensor) -> Tensor:
    """This rank's shard, as a view; a plain tensor as it is.

    Args:
        tensor: plain or sharded.
    """
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor sharded as another is; as it is, where the other is plain.

    Args:
        tensor: plain, the same on all ranks.
        like: plain or sharded.
    """
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import DTensor, Replicate

    sharded: Any = like
    replicate = [Replicate()] * sharded.device_mesh.ndim
    replicated = DTensor.from_local(tensor, sharded.device_mesh, replicate, run_check=False)
    return replicated.redistribute(placements=sharded.placements)


def is_sharded(module: nn.Module) -> bool:
    """Whether a module has parameters that are sharded over ranks.

    Args:
        module: with plain or sharded parameters.
    """
    return any(hasattr(parameter, "full_tensor") for parameter in module.parameters())
