"""Rotary positions: vectors turned by angles that grow with their place. Knows no attention.

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
    positions: Tensor, size: int, base: float = 10_000.0, scaling: Mapping[str, Any] | None = None
) -> Tensor:
    """Cosine and sine of each pair of channels at `positions` (...): (..., D / 2, 2) (arXiv 2104.09864, eq. 15).

    scaling: as in the config.json of published Llama models, see `scaled`.
    """
    frequencies = base ** (-torch.arange(0, size, 2, device=positions.device, dtype=torch.float32) / size)
    angles = positions.float().unsqueeze(-1) * scaled(frequencies, scaling)
    return torch.stack([angles.cos(), angles.sin()], -1)


def scaled(frequencies: Tensor, scaling: Mapping[str, Any] | None) -> Tensor:
    """Frequencies for a context longer than that of training.

    rope_type "linear": all divided by `factor` (arXiv 2306.15595, section 2.3). "llama3": only those that turn
    less than `low_freq_factor` times in the old context, and none that turn more than `high_freq_factor` times; in
    between, in between (Llama 3.1, arXiv 2407.21783, as published with its weights).

    Raises UserError for other types, or if a number is missing.
    """
    if scaling is None:
        return frequencies
    kind = scaling.get("rope_type", scaling.get("type"))
    try:
        if kind == "default":
            return frequencies
        factor = float(scaling["factor"])
        if kind == "linear":
            return frequencies / factor
        if kind == "llama3":
            low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
            turns = frequencies * float(scaling["original_max_position_embeddings"]) / (2 * math.pi)
            kept = ((turns - low) / (high - low)).clamp(0.0, 1.0)
            return frequencies * (kept + (1 - kept) / factor)
    except KeyError as error:
        raise UserError(f"rotary_scaling: {kind!r} needs the number {error}") from None
    raise UserError(f"rotary_scaling: knows 'linear' and 'llama3', not {kind!r}")


def rotate(vectors: Tensor, rotation: Tensor) -> Tensor:
    """Turn each pair of neighbouring channels by its position's angle: (..., T, N, D), (..., T, D / 2, 2) -> alike.

    (arXiv 2104.09864, eq. 34.) As one product of complex numbers, of at least 32 bits each, a quarter of the time on a
    CPU; a compiler fuses the plain operations by itself.
    """
    turns = rotation.unsqueeze(-3)  # (..., T, 1, D / 2, 2)
    if not torch.compiler.is_compiling():
        return Rotate.apply(vectors, turns)
    pairs, turns = vectors.unflatten(-1, (-1, 2)), turns.to(vectors.dtype)
    (first, second), (cosine, sine) = pairs.unbind(-1), turns.unbind(-1)
    return torch.stack([first * cosine - second * sine, first * sine + second * cosine], -1).flatten(-2)


class Rotate(torch.autograd.Function):
    """The gradient is turned back."""

    @staticmethod
    def forward(context: Any, vectors: Tensor, turns: Tensor) -> Tensor:
        """(..., T, N, D), (..., T, 1, D / 2, 2) -> (..., T, N, D)."""
        wide = torch.promote_types(vectors.dtype, torch.float32)
        context.turns = torch.view_as_complex(turns.to(wide))
        return _turned(vectors, context.turns)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """By the opposite angles."""
        return _turned(gradient, context.turns.conj()), None


def _turned(vectors: Tensor, turns: Tensor) -> Tensor:
    pairs = torch.view_as_complex(vectors.to(turns.real.dtype).unflatten(-1, (-1, 2)))  # (..., T, N, D / 2)
    return torch.view_as_real(pairs * turns).flatten(-2).to(vectors.dtype)
