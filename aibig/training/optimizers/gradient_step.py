"""From summed gradients to one optimizer step: weigh, clip, check, step. Knows no task."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aibig.layers.dtensor import full, local
from aibig.training.devices.distributed import World


@dataclass
class GradientStep:
    """Takes the optimizer's step, unless the loss or the gradient is not finite.

    On the CPU the host looks, which costs nothing. On an accelerator it would have to wait, so the device decides:
    the fused optimizers honour `found_inf`. For an optimizer that does not, the host waits.
    """

    optimizer: torch.optim.Optimizer
    parameters: list[nn.Parameter]
    world: World
    device: torch.device
    scaler: torch.amp.GradScaler | None = None
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        device_can = getattr(self.optimizer, "_step_supports_amp_scaling", False)
        self.host_checks = self.device.type == "cpu" or not device_can

    def take(self, loss: Tensor, total_weight: float | None) -> tuple[bool, dict[str, Tensor | float]]:
        """Step. Returns False if the host knows that the step was skipped, and what is to be logged.

        loss: the sum of the micro-batches' values. total_weight: this rank's, if the gradients are those of a sum
        over micro-batches and ranks. Dividing by the weight of all of them then gives exactly the big batch's
        mean, whatever each part weighed.
        """
        gradients = [one.grad for one in self.parameters if one.grad is not None]
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        if total_weight is not None:
            loss = self._divide(gradients, total_weight, loss)
        norm = norm_of(gradients)
        if self.clip_norm is not None:
            factor = (self.clip_norm / (norm + 1e-6)).clamp(max=1.0)
            if not (self.host_checks and factor == 1.0):  # most gradients are short enough: that saves a pass
                torch._foreach_mul_([local(one) for one in gradients], factor)
        skipped = self._step_if_finite(norm + loss)
        for one in self.parameters:
            one.grad = None
        known_to_be_skipped = isinstance(skipped, float) and skipped == 1.0
        return not known_to_be_skipped, {"gradient_norm": norm, "skipped": skipped}

    def _divide(self, gradients: list[Tensor], weight: float, loss: Tensor) -> Tensor:
        """Gradients over the weight of all ranks (theirs arrive averaged). Returns the sum of all ranks' losses."""
        wide = torch.float32 if self.device.type == "mps" else torch.float64  # no rounding that a model could see
        weight_and_loss = torch.stack([torch.full((), weight, dtype=wide, device=self.device), loss.to(wide)])
        total, losses = self.world.sum(weight_and_loss).unbind()
        factor = (self.world.size / total).to(gradients[0].dtype)
        torch._foreach_mul_([local(one) for one in gradients], factor)
        return losses

    def _step_if_finite(self, checked: Tensor) -> float | Tensor:
        """Step unless `checked` is not finite. Returns 1 if skipped, else 0: a tensor if the device decides."""
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
            self.scaler.update()  # by what it saw itself when it unscaled
        return skipped


def norm_of(tensors: list[Tensor]) -> Tensor:
    """The Euclidean norm of all numbers in `tensors`, a scalar; whole, if they are sharded over ranks."""
    return full(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors))))
