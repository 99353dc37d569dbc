"""Normalisation in the type of its inputs. Knows no model.

C channels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class RMSNorm(nn.RMSNorm):
    """Vectors divided by their root mean square, times a gain (arXiv 1910.07467, eq. 4).

    Under autocast the inputs may be bf16; with the gain in the same type torch takes its fused kernel.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The normalised vectors, (..., C).

        Args:
            x: vectors, (..., C).
        """
        weight = None if self.weight is None else self.weight.to(x.dtype)
        return F.rms_norm(x, self.normalized_shape, weight, self.eps)


def make_norm(kind: str, width: int, eps: float | None = None, *, gain: bool = True, bias: bool = False) -> nn.Module:
    """A normalisation layer.

    Args:
        kind: "rms", or "layer" (arXiv 1607.06450), the faster one on a CPU.
        width: C.
        eps: added for numerical stability; None is the kind's own: the type's machine epsilon, or 1e-5.
        gain: whether it has a learned gain.
        bias: whether it has a learned bias ("layer" only).
    """
    if kind == "rms":
        return RMSNorm(width, eps, elementwise_affine=gain)
    return nn.LayerNorm(width, 1e-5 if eps is None else eps, elementwise_affine=gain, bias=bias)
