"""Normalisation in whatever precision its input has."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class RMSNorm(nn.RMSNorm):
    """Vectors divided by the root of their mean square, times a gain (arXiv 1910.07467, eq. 4).

    Under autocast the input may be bf16; with the gain in the same type torch takes its fused kernel.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        weight = None if self.weight is None else self.weight.to(x.dtype)
        return F.rms_norm(x, self.normalized_shape, weight, self.eps)


def make_norm(kind: str, width: int, eps: float | None = None, *, gain: bool = True, bias: bool = False) -> nn.Module:
    """ "rms", or "layer" (arXiv 1607.06450), the faster one on a CPU. gain, bias: are learned.

    eps: None is the kind's own: the type's smallest step, or 1e-5.
    """
    if kind == "rms":
        return RMSNorm(width, eps, elementwise_affine=gain)
    return nn.LayerNorm(width, 1e-5 if eps is None else eps, elementwise_affine=gain, bias=bias)
