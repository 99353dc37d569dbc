"""What tells actions apart is computed in full precision, whatever autocast gives the rest."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from aibig.layers.full_precision import last_in_full_precision
from aibig.layers.q.noisy import NoisyLinear, noisy, resample_noise
from aibig.models.dqn import Dqn


@pytest.mark.parametrize("kind", [nn.Linear, NoisyLinear])
def test_autocast_changes_nothing_but_what_comes_in(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.ReLU(), kind(300, 5))
    resample_noise(layers, torch.Generator().manual_seed(1))
    inputs = torch.randn(7, 300).bfloat16()
    with noisy(layers):
        wanted = layers(inputs.float())
        wanted.sum().backward()
        gradients = [one.grad for one in layers.parameters()]
        layers.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = last_in_full_precision(layers, inputs)
        got.sum().backward()
    assert torch.equal(got, wanted)
    for one, gradient in zip(layers.parameters(), gradients, strict=True):
        assert torch.equal(one.grad, gradient)  # type: ignore[arg-type]


@pytest.mark.parametrize("parts", [{}, {"dueling": True}, {"noisy": True}, {"distribution": "quantiles"}])
def test_actions_that_differ_by_a_thousandth_are_told_apart(parts: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network: Any = Dqn(in_features=9, hidden=16, **parts)
    head = network.head if isinstance(network.head, nn.Linear) else network.head.advantage[-1]
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(100.0 + 0.001 * torch.arange(len(head.bias)))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        values = network(torch.rand(3, 9)).flatten(1)
    assert (values.diff(dim=1) > 0.0005).all()
