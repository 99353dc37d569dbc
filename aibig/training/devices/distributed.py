"""Collective operations on torch.distributed, which do nothing in a single process. Knows no task.

Models are changed in place (`replicate`, `fully_shard`), so that a task calls the modules that it made.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from aibig import ranks
from aibig.layers.utils.dtensor import is_sharded


class World:
    """The ranks of this run: torch.distributed's default process group under torchrun, otherwise a single process."""

    def __init__(self) -> None:
        self.size, self.rank, self.local_rank = ranks.world_size(), ranks.rank(), ranks.local_rank()
        self.is_main = ranks.is_main_rank()

    def init_process_group(self, device: torch.device) -> None:
        """Connect the ranks.

        Args:
            device: device of this rank; the backend is NCCL on CUDA, else Gloo.
        """
        if self.size > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")

    def all_reduce(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all ranks.

        Args:
            values: tensor of this rank, on any device.
        """
        if self.size == 1:
            return values
        total = values.to(self._device())
        dist.all_reduce(total)
        return total

    def any(self, flag: bool) -> bool:
        """Whether a flag is set on any rank.

        Args:
            flag: flag of this rank.
        """
        return flag if self.size == 1 else bool(self.all_reduce(torch.tensor(float(flag))))

    def broadcast(self, value: Any) -> Any:
        """The main rank's value, on every rank.

        Args:
            value: value of this rank, which can be pickled.
        """
        if self.size == 1:
            return value
        objects = [value]
        dist.broadcast_object_list(objects, src=0, device=self._device())
        return objects[0]

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            dist.barrier()

    def _device(self) -> torch.device:
        return torch.device("cuda", self.local_rank) if dist.get_backend() == "nccl" else torch.device("cpu")


def parallelize(module: nn.Module, parallel: str) -> None:
    """Spread a module over the ranks, in place.

    Args:
        module: module, on its device.
        parallel: "replicate": each rank has a copy (DDP); "fully_shard": each has a part of the parameters (FSDP).
    """
    if parallel == "replicate":
        from torch.distributed._composable.replicate import replicate

        if any(parameter.requires_grad for parameter in module.parameters()):
            replicate(module)
        return
    from torch.distributed.fsdp import fully_shard

    for child in module.children():
        for block in child if isinstance(child, nn.ModuleList) else ():
            fully_shard(block)
    # The root is resharded too, so that between forward passes all parameters are shards.
    fully_shard(module, reshard_after_forward=True)


def set_gradient_sync(module: nn.Module, enabled: bool) -> None:
    """Set whether backward passes average gradients over ranks. Of several micro-batches only the last needs it.

    Args:
        module: module that is spread over the ranks.
        enabled: whether gradients are averaged.
    """
    module.set_requires_gradient_sync(enabled)  # type: ignore[operator]


def full_state_dict(module: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Any]:
    """The state dict of a module, or of its optimizer, unsharded. Every rank must call it; the main rank's is complete.

    Args:
        module: the module.
        optimizer: optimizer of the module; None: the module's own state dict.
    """
    if not is_sharded(module):
        return (optimizer or module).state_dict()
    from torch.distributed.checkpoint import state_dict as sharded

    options = sharded.StateDictOptions(full_state_dict=True, cpu_offload=True)
    if optimizer is None:
        return sharded.get_model_state_dict(module, options=options)
    return sharded.get_optimizer_state_dict(module, optimizer, options=options)


def load_full_state_dict(
    module: nn.Module, state: dict[str, Any], optimizer: torch.optim.Optimizer | None = None
) -> None:
    """Load the unsharded state dict of a module, or of its optimizer. Every rank must call it, with the same state.

    Args:
        module: the module.
        state: what `full_state_dict` returned on the main rank.
        optimizer: optimizer of the module; None: the module's own state dict.
    """
    if not is_sharded(module):
        (optimizer or module).load_state_dict(state)
        return
    from torch.distributed.checkpoint import state_dict as sharded

    options = sharded.StateDictOptions(full_state_dict=True)
    if optimizer is None:
        sharded.set_model_state_dict(module, state, options=options)
    else:
        sharded.set_optimizer_state_dict(module, optimizer, state, options=options)
