"""One optimizer step from accumulated gradients: unscale, divide, clip, check, step. Knows no task."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aibig.layers.utils.dtensor import full_tensor, to_local
from aibig.training.devices.distributed import World


@dataclass
class GradientStep:
    """Takes an optimizer step, unless the loss or the gradient is not finite.

    On the CPU the host checks that. On an accelerator the device does, so that the host need not wait: fused optimizers
    skip the step if `found_inf` is 1. With other optimizers the host waits.

    Args:
        optimizer: the optimizer.
        parameters: parameters that it trains.
        world: ranks of the run.
        device: device that the run computes on.
        scaler: scaler of the losses, for fp16; None for other precisions.
        clip_norm: largest norm of the gradient; None: no clipping.
    """

    optimizer: torch.optim.Optimizer
    parameters: list[nn.Parameter]
    world: World
    device: torch.device
    scaler: torch.amp.GradScaler | None = None
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        device_can_skip = getattr(self.optimizer, "_step_supports_amp_scaling", False)
        self.host_checks = self.device.type == "cpu" or not device_can_skip

    def step(self, loss: Tensor, total_weight: float | None) -> tuple[bool, dict[str, Tensor | float]]:
        """Take the step, and clear the gradients.

        Args:
            loss: sum of the micro-batches' losses.
            total_weight: sum of this rank's micro-batch weights, if the losses were multiplied by them. The gradients
                are then divided by the total weight of all ranks, which gives those of a single large batch. None if
                they are of the mean loss of one micro-batch.

        Returns:
            Whether the step was taken, as far as the host knows; and the metrics to log.
        """
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        if total_weight is not None:
            loss = self._divide(gradients, total_weight, loss)
        norm = total_norm(gradients)
        if self.clip_norm is not None:
            factor = (self.clip_norm / (norm + 1e-6)).clamp(max=1.0)
            if not (self.host_checks and factor == 1.0):  # most need no clipping: that saves a pass
                torch._foreach_mul_([to_local(gradient) for gradient in gradients], factor)
        skipped = self._step_if_finite(norm + loss)
        for parameter in self.parameters:
            parameter.grad = None
        known_to_be_skipped = isinstance(skipped, float) and skipped == 1.0
        return not known_to_be_skipped, {"gradient_norm": norm, "skipped": skipped}

    def _divide(self, gradients: list[Tensor], weight: float, loss: Tensor) -> Tensor:
        """Divide by the total weight of all ranks; backward has already averaged over ranks. Returns their loss."""
        dtype = torch.float32 if self.device.type == "mps" else torch.float64  # rounds no weight that occurs
        weight_and_loss = torch.stack([torch.full((), weight, dtype=dtype, device=self.device), loss.to(dtype)])
        weight_of_all, loss_of_all = self.world.all_reduce(weight_and_loss).unbind()
        factor = (self.world.size / weight_of_all).to(gradients[0].dtype)
        torch._foreach_mul_([to_local(gradient) for gradient in gradients], factor)
        return loss_of_all

    def _step_if_finite(self, checked: Tensor) -> float | Tensor:
        """Step if `checked` is finite. Returns 1 if the step is skipped, else 0; a tensor if the device decides."""
        skipped: float | Tensor = 0.0
        if self.host_checks:
            skipped = 0.0 if math.isfinite(checked.item()) else 1.0
        else:
            skipped = (~checked.isfinite()).float()
            self.optimizer.found_inf = skipped  # type: ignore[attr-defined]
            self.optimizer.grad_scale = None  # type: ignore[attr-defined]
        if not self.host_checks or skipped == 0.0:
            self.optimizer.step()
        if self.scaler is not None:
            self.scaler.update()  # by the gradients that it found not finite
        return skipped


def total_norm(tensors: list[Tensor]) -> Tensor:
    """The Euclidean norm of several tensors as one vector, a scalar. Shards of all ranks count.

    Args:
        tensors: one or more tensors.
    """
    return full_tensor(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors))))
