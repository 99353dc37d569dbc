"""Layers that compute in fp32 where autocast would give them a narrower type. Knows no model.

For outputs whose differences matter more than their values: bf16 resolves one part in 256, which makes Q-values of 100
and 100.3 equal. The inputs may be rounded; the sum over many of them averages that out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def in_full_precision(layer: nn.Module, inputs: Tensor) -> Tensor:
    """The outputs of a layer, computed in fp32 under autocast.

    Args:
        layer: with parameters in fp32.
        inputs: the layer's, of any floating type.
    """
    device_type = inputs.device.type
    if not torch.is_autocast_enabled(device_type):
        return layer(inputs)
    with torch.autocast(device_type, enabled=False):
        return layer(inputs.float())


def last_in_full_precision(layers: nn.Sequential, inputs: Tensor) -> Tensor:
    """The outputs of a sequence of layers, the last of them `in_full_precision`.

    Args:
        layers: at least one.
        inputs: the first layer's.
    """
    *others, last = layers
    for layer in others:
        inputs = layer(inputs)
    return in_full_precision(last, inputs)
