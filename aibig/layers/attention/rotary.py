"""Rotary position embeddings: pairs of channels rotated by angles that grow with the position. Knows no attention.

T time, N heads, D channels of a head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from aibig.errors import UserError


def rotary_angles(
    positions: Tensor, head_width: int, base: float = 10_000.0, scaling: Mapping[str, Any] | None = None
) -> Tensor:
    """Cosine and sine of the angle of each pair of channels, (..., D / 2, 2) (arXiv 2104.09864, eq. 15).

    Args:
        positions: of the tokens, (...).
        head_width: D.
        base: the wavelengths, in positions, grow from 2 pi to nearly 2 pi times this (theta in published configs).
        scaling: for a longer context than that of training, as in the config.json of published Llama models: rope_type
            "linear" or "llama3", with its numbers.

    Raises:
        UserError: the scaling is of another type, or a number is missing.
    """
    frequencies = base ** (-torch.arange(0, head_width, 2, device=positions.device, dtype=torch.float32) / head_width)
    angles = positions.float().unsqueeze(-1) * _scale_frequencies(frequencies, scaling)
    return torch.stack([angles.cos(), angles.sin()], -1)


def _scale_frequencies(frequencies: Tensor, scaling: Mapping[str, Any] | None) -> Tensor:
    """Frequencies for a longer context than that of training.

    "linear": all are divided by `factor` (arXiv 2306.15595, section 2.3). "llama3": those with fewer than
    `low_freq_factor` rotations in the original context are divided, those with more than `high_freq_factor` are not;
    between them it interpolates (Llama 3.1, arXiv 2407.21783, as published with its weights).
    """
    if scaling is None:
        return frequencies
    rope_type = scaling.get("rope_type", scaling.get("type"))
    try:
        if rope_type == "default":
            return frequencies
        factor = float(scaling["factor"])
        if rope_type == "linear":
            return frequencies / factor
        if rope_type == "llama3":
            low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
            rotations = frequencies * float(scaling["original_max_position_embeddings"]) / (2 * math.pi)
            unscaled = ((rotations - low) / (high - low)).clamp(0.0, 1.0)
            return frequencies * (unscaled + (1 - unscaled) / factor)
    except KeyError as error:
        raise UserError(f"rotary_scaling: {rope_type!r} needs the number {error}") from None
    raise UserError(f"rotary_scaling: rope_type must be 'linear' or 'llama3', not {rope_type!r}")


def rotate(vectors: Tensor, rotation: Tensor) -> Tensor:
    """Rotate each pair of neighbouring channels by its position's angle, (..., T, N, D) (arXiv 2104.09864, eq. 34).

    One product of complex numbers, of at least 32 bits each, takes a quarter of the time on a CPU. A compiler fuses the
    plain operations by itself.

    Args:
        vectors: queries or keys, (..., T, N, D).
        rotation: as `rotary_angles` returns it, (..., T, D / 2, 2).
    """
    rotation = rotation.unsqueeze(-3)  # (..., T, 1, D / 2, 2)
    if not torch.compiler.is_compiling():
        return _Rotate.apply(vectors, rotation)
    pairs, rotation = vectors.unflatten(-1, (-1, 2)), rotation.to(vectors.dtype)
    (first, second), (cosine, sine) = pairs.unbind(-1), rotation.unbind(-1)
    return torch.stack([first * cosine - second * sine, first * sine + second * cosine], -1).flatten(-2)


class _Rotate(torch.autograd.Function):
    """The gradient is rotated back."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, rotation: Tensor) -> Tensor:
        """(..., T, N, D), (..., T, 1, D / 2, 2) -> (..., T, N, D)."""
        wide = torch.promote_types(vectors.dtype, torch.float32)
        ctx.rotation = torch.view_as_complex(rotation.to(wide))
        return _multiply(vectors, ctx.rotation)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        """By the opposite angles."""
        return _multiply(grad_output, ctx.rotation.conj()), None


def _multiply(vectors: Tensor, rotation: Tensor) -> Tensor:
    """Pairs of channels as complex numbers, times those of the rotation."""
    pairs = torch.view_as_complex(vectors.to(rotation.real.dtype).unflatten(-1, (-1, 2)))  # (..., T, N, D / 2)
    return torch.view_as_real(pairs * rotation).flatten(-2).to(vectors.dtype)
