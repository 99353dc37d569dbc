"""One process or several ranks through the same calls: under torchrun they talk, alone they do nothing. No task.

Models are changed in place (`replicate`, `fully_shard`), so that a task keeps calling what it made.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from aibig import ranks
from aibig.layers.dtensor import is_sharded


class World:
    """The ranks of this run. Joins torchrun's process group if its variables are set."""

    def __init__(self) -> None:
        self.size, self.rank, self.local_rank = ranks.world_size(), ranks.rank(), ranks.local_rank()
        self.is_main = ranks.is_main_rank()

    def join(self, device: torch.device) -> None:
        """Meet the other ranks."""
        if self.size > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")

    def sum(self, values: Tensor) -> Tensor:
        """The sum of `values`, a tensor on any device, over all ranks."""
        if self.size == 1:
            return values
        total = values.to(self._device())
        dist.all_reduce(total)
        return total

    def any(self, flag: bool) -> bool:
        """Whether `flag` holds on any rank: how ranks agree."""
        return flag if self.size == 1 else bool(self.sum(torch.tensor(float(flag))))

    def share(self, value: Any) -> Any:
        """The main rank's `value`, on every rank."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self._device())
        return box[0]

    def wait(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            dist.barrier()

    def _device(self) -> torch.device:
        return torch.device("cuda", self.local_rank) if dist.get_backend() == "nccl" else torch.device("cpu")


def distribute(module: nn.Module, how: str) -> None:
    """Make `module` one of several ranks' copies ("replicate") or shards ("fully_shard"), in place."""
    if how == "replicate":
        from torch.distributed._composable.replicate import replicate

        if any(one.requires_grad for one in module.parameters()):
            replicate(module)
        return
    from torch.distributed.fsdp import fully_shard

    for child in module.children():
        for block in child if isinstance(child, nn.ModuleList) else ():
            fully_shard(block)
    # Resharded after forward, also at the root, so that its parameters are the shards between any two calls.
    fully_shard(module, reshard_after_forward=True)


def synchronise_gradients(module: nn.Module, now: bool) -> None:
    """Whether the next backward pass averages gradients over ranks; of several micro-batches only the last need."""
    module.set_requires_gradient_sync(now)  # type: ignore[operator]


def whole_state(module: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Any]:
    """The state of `module`, or of its optimizer, whole. Every rank must call it; the main rank's is complete."""
    if not is_sharded(module):
        return (optimizer or module).state_dict()
    from torch.distributed.checkpoint import state_dict as sharded

    options = sharded.StateDictOptions(full_state_dict=True, cpu_offload=True)
    if optimizer is None:
        return sharded.get_model_state_dict(module, options=options)
    return sharded.get_optimizer_state_dict(module, optimizer, options=options)


def load_whole_state(module: nn.Module, state: dict[str, Any], optimizer: torch.optim.Optimizer | None = None) -> None:
    """Put what `whole_state` gave back, on every rank."""
    if not is_sharded(module):
        (optimizer or module).load_state_dict(state)
        return
    from torch.distributed.checkpoint import state_dict as sharded

    options = sharded.StateDictOptions(full_state_dict=True)
    if optimizer is None:
        sharded.set_model_state_dict(module, state, options=options)
    else:
        sharded.set_optimizer_state_dict(module, optimizer, state, options=options)
