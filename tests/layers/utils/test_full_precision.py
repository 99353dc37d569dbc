"""The last layer of Q-values is computed in full precision, whatever autocast gives the rest."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from aibig.layers.q.noisy import NoisyLinear, noise_enabled, reset_noise
from aibig.layers.utils.full_precision import last_in_full_precision
from aibig.models.dqn import Dqn


@pytest.mark.parametrize("kind", [nn.Linear, NoisyLinear])
def test_autocast_changes_only_the_inputs(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.ReLU(), kind(300, 5))
    reset_noise(layers, torch.Generator().manual_seed(1))
    inputs = torch.randn(7, 300).bfloat16()
    with noise_enabled(layers):
        expected = layers(inputs.float())
        expected.sum().backward()
        gradients = [parameter.grad for parameter in layers.parameters()]
        layers.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = last_in_full_precision(layers, inputs)
        outputs.sum().backward()
    assert torch.equal(outputs, expected)
    for parameter, gradient in zip(layers.parameters(), gradients, strict=True):
        assert torch.equal(parameter.grad, gradient)  # type: ignore[arg-type]


@pytest.mark.parametrize("parts", [{}, {"dueling": True}, {"noisy": True}, {"distribution": "quantiles"}])
def test_q_values_that_differ_by_a_thousandth_stay_different(parts: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network: Any = Dqn(in_features=9, hidden=16, **parts)
    head = network.head if isinstance(network.head, nn.Linear) else network.head.advantage[-1]
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(100.0 + 0.001 * torch.arange(len(head.bias)))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        values = network(torch.rand(3, 9)).flatten(1)
    assert (values.diff(dim=1) > 0.0005).all()
