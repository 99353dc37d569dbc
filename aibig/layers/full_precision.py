"""Linear layers that compute in fp32 where autocast gives others less. Knows no model.

For outputs whose differences matter more than they do themselves: bf16 resolves one part in 256, which makes actions
of values 100 and 100.3 the same. What comes in may be rounded; many inputs average that out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aibig.layers.noisy import NoisyLinear


class FullPrecision(nn.Module):
    """Stands before a layer's class in its bases: under autocast too, (..., in) -> (..., out) of float32."""

    def forward(self, inputs: Tensor) -> Tensor:
        """The layer's own forward, without autocast."""
        kind = inputs.device.type
        if not torch.is_autocast_enabled(kind):
            return super().forward(inputs)
        with torch.autocast(kind, enabled=False):
            return super().forward(inputs.float())


class FullPrecisionLinear(FullPrecision, nn.Linear):
    """nn.Linear in full precision."""


class FullPrecisionNoisyLinear(FullPrecision, NoisyLinear):
    """NoisyLinear in full precision."""
