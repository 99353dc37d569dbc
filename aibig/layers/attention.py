"""Self-attention with rotary positions.

B batch, T time, C channels, N heads, D channels of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aibig.layers.norm import RMSNorm

KeysAndValues = tuple[Tensor, Tensor]  # of all tokens so far, (B, N, T, D) each


class SelfAttention(nn.Module):
    """Each token looks at itself and those before it; if not causal, at all (arXiv 1706.03762, section 3.2).

    Queries and keys are normalised, with a learned gain, before they are turned (arXiv 2010.04245; as RMSNorm
    in Qwen3, arXiv 2505.09388, section 2), so that the attention's logits don't grow with the weights.
    width: C, a multiple of heads. dropout: on the output.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0, causal: bool = True) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.norm = RMSNorm(width // heads)  # of queries and keys alike: they only ever meet in products
        self.out = nn.Linear(width, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, inputs: Tensor, rotation: Tensor, past: KeysAndValues | None = None, visible: Tensor | None = None
    ) -> tuple[Tensor, KeysAndValues]:
        """inputs (B, T, C), rotation (T, D) of their positions -> outputs (B, T, C), keys and values so far.

        visible (B, T): which tokens may be looked at, if not all; what is causal needs none for padding on the right.
        """
        batch, time, width = inputs.shape
        split = self.queries_keys_values(inputs).view(batch, time, 3, self.heads, width // self.heads)
        split = split.permute(2, 0, 3, 1, 4)  # (3, B, N, T, D)
        queries, keys = rotate(self.norm(split[:2]), rotation)  # (B, N, T, D) each, as are the values
        values = split[2]
        if past is not None and past[0].shape[2]:
            keys, values = torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2)
            mask = causal_mask(time, keys.shape[2], inputs.device)
            mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        else:
            seen = None if visible is None else visible[:, None, None]  # (B, 1, 1, T): for all heads and queries
            mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen, is_causal=self.causal)
        joined = mixed.transpose(1, 2).reshape(batch, time, width)
        return self.dropout(self.out(joined)), (keys, values)


def rotary_angles(start: int, time: int, size: int, device: torch.device) -> Tensor:
    """Cosines and sines of `time` positions from `start`, side by side: (T, D) (RoFormer, arXiv 2104.09864, eq. 15)."""
    frequencies = 10_000.0 ** (-torch.arange(0, size, 2, device=device, dtype=torch.float32) / size)
    positions = torch.arange(start, start + time, device=device, dtype=torch.float32)
    angles = torch.outer(positions, frequencies)
    return torch.cat([angles.cos(), angles.sin()], 1)


def rotate(vectors: Tensor, rotation: Tensor) -> Tensor:
    """Turn each pair of channels, one of each half, by its position's angle: (..., T, D) -> (..., T, D)."""
    cosine, sine = rotation.to(vectors.dtype).chunk(2, 1)  # (T, D/2) each
    first, second = vectors.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1)


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """Which of `keys` tokens each of the last `queries` of them may look at: (queries, keys), True where it may."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
