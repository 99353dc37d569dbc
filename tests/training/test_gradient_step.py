"""The step as an accelerator takes it: the device decides, the host does not check."""

from __future__ import annotations

import pytest
import torch

from aibig.training.devices.distributed import World
from aibig.training.optimizers.builders import adamw
from aibig.training.optimizers.gradient_step import GradientStep


@pytest.mark.parametrize("with_scaler", [False, True])
@pytest.mark.parametrize(("loss", "poison"), [(1.0, 0.0), (float("inf"), 0.0), (1.0, float("nan"))])
def test_the_device_skips_what_is_not_finite(with_scaler: bool, loss: float, poison: float) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0) if with_scaler else None
    step = GradientStep(adamw()(model), list(model.parameters()), World(), torch.device("cpu"), scaler)
    step.host_checks = False  # fused AdamW honours found_inf on the CPU too
    before = [parameter.detach().clone() for parameter in model.parameters()]
    value = model(torch.ones(1, 2)).sum() + poison * model.weight.sum()
    (value if scaler is None else scaler.scale(value)).backward()
    taken, metrics = step.step(torch.tensor(loss), None)
    finite = loss == 1.0 and poison == 0.0
    assert taken and float(metrics["skipped"]) == (0.0 if finite else 1.0)
    unchanged = all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert unchanged != finite
    assert all(parameter.grad is None for parameter in model.parameters())
