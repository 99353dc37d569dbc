"""From summed gradients to one optimizer step: weigh, clip, check, step. Knows no task."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aibig.training.distributed import World, full, local


@dataclass
class GradientStep:
    """Takes the optimizer's step, unless the loss or the gradient is not finite.

    On the CPU the host looks, which costs nothing. On an accelerator it would have to wait, so the device decides:
    GradScaler does for fp16, and the fused optimizers honour `found_inf`.
    """

    optimizer: torch.optim.Optimizer
    parameters: list[nn.Parameter]
    world: World
    device: torch.device
    scaler: torch.amp.GradScaler | None = None
    clip_norm: float | None = None

    def take(self, loss_is_finite: Tensor, total_weight: float | None) -> tuple[bool, dict[str, Tensor]]:
        """Step. Returns False if the host knows that the step was skipped, and what is to be logged.

        total_weight: this rank's, if the gradients are those of a sum over micro-batches and ranks. Dividing by
        the weight of all of them then gives exactly the big batch's mean, whatever each part weighed.
        """
        gradients = [one.grad for one in self.parameters if one.grad is not None]
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        if total_weight is not None:
            loss_is_finite = self._divide(gradients, total_weight, loss_is_finite)
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.clip_norm, norm)
        norm = full(norm)
        finite = loss_is_finite & norm.isfinite()
        taken = self._step_if(finite)
        self.optimizer.zero_grad()
        return taken, {"gradient_norm": norm, "skipped": (~finite).float()}

    def _divide(self, gradients: list[Tensor], weight: float, loss_is_finite: Tensor) -> Tensor:
        """Gradients over the weight of all ranks (theirs arrive averaged); whether every rank's loss is finite."""
        here = torch.stack([torch.tensor(weight, device=self.device), (~loss_is_finite).float()])
        total, infinite = self.world.sum(here).unbind()
        torch._foreach_mul_([local(one) for one in gradients], self.world.size / total)
        return infinite == 0

    def _step_if(self, finite: Tensor) -> bool:
        taken = True
        if self.device.type == "cpu":
            taken = bool(finite)
        elif self.scaler is None:
            self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
            self.optimizer.grad_scale = None  # type: ignore[attr-defined]
        if taken:
            self.scaler.step(self.optimizer) if self.scaler is not None else self.optimizer.step()
        if self.scaler is not None:
            self.scaler.update()
        return taken
