"""Layers that compute in fp32 where autocast gives others less. Knows no model.

For outputs whose differences matter more than they do themselves: bf16 resolves one part in 256, which makes actions
of values 100 and 100.3 the same. What comes in may be rounded; many inputs average that out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def in_full_precision(layer: nn.Module, inputs: Tensor) -> Tensor:
    """What `layer` gives without autocast; under it, of `inputs` in float32."""
    kind = inputs.device.type
    if not torch.is_autocast_enabled(kind):
        return layer(inputs)
    with torch.autocast(kind, enabled=False):
        return layer(inputs.float())


def last_in_full_precision(layers: nn.Sequential, inputs: Tensor) -> Tensor:
    """What `layers` give, the last of them `in_full_precision`."""
    *before, last = layers
    for layer in before:
        inputs = layer(inputs)
    return in_full_precision(last, inputs)
