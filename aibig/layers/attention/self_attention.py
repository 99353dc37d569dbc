"""Self-attention, and who may look at whom. Knows no model.

B batch, T time, S tokens looked at, C channels, N heads, K key-value heads, D channels of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aibig.layers.attention.causal_attention import LONGEST, causal_attention
from aibig.layers.attention.kv_cache import KVCache
from aibig.layers.attention.rotary import rotate


class SelfAttention(nn.Module):
    """Tokens look at tokens (arXiv 1706.03762, section 3.2).

    width: C. heads: N. kv_heads: K, a divisor of N; each serves N / K heads (grouped-query attention, arXiv
    2305.13245, section 2.2). head_width: D. query_key_norm: a norm over D of queries and keys before they are turned
    (arXiv 2010.04245; as RMSNorm in Qwen3, arXiv 2505.09388, section 2), so that the attention's logits don't grow with
    the weights; one for both, since they only ever meet in products. dropout: on the output.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        head_width: int | None = None,
        bias: bool = False,
        query_key_norm: nn.Module | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.kv_heads = heads, kv_heads or heads
        self.head_width = head_width or width // heads
        self.qkv_proj = nn.Linear(width, (heads + 2 * self.kv_heads) * self.head_width, bias)
        self.norm = nn.Identity() if query_key_norm is None else query_key_norm
        self.out_proj = nn.Linear(heads * self.head_width, width, bias)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        inputs: Tensor,
        rotation: Tensor | None = None,
        attn_mask: Tensor | None = None,
        causal: bool = False,
        kv_cache: KVCache | None = None,
        block: int = 0,
    ) -> Tensor:
        """inputs (B, T, C) -> (B, T, C).

        rotation (1 or B, T, D / 2, 2): of the positions, None for no rotary ones. attn_mask (1 or B, 1, 1 or T, S): which
        tokens may be looked at; None: all, or if `causal` those up to each token itself. kv_cache: takes the keys and
        values, as those of the block of this number; the S tokens are all that it holds.
        """
        batch, time, _ = inputs.shape
        split = self.qkv_proj(inputs).view(batch, time, -1, self.head_width)
        queries_keys, values = split.split([self.heads + self.kv_heads, self.kv_heads], 2)
        queries_keys = self.norm(queries_keys)
        if rotation is not None:
            queries_keys = rotate(queries_keys, rotation)
        queries, keys = queries_keys.split([self.heads, self.kv_heads], 2)
        if kv_cache is not None:
            keys, values = kv_cache.append(f"keys {block}", keys), kv_cache.append(f"values {block}", values)
        queries, keys, values = (one.transpose(1, 2) for one in (queries, keys, values))  # (B, N or K, T or S, D)
        mixed = attend(queries, keys, values, attn_mask, causal and attn_mask is None)
        return self.dropout(self.out_proj(mixed.transpose(1, 2).flatten(2)))


def attend(queries: Tensor, keys: Tensor, values: Tensor, attn_mask: Tensor | None, causal: bool) -> Tensor:
    """softmax(queries keys^T / sqrt(D)) values: (B, N, T, D), twice (B, K, S, D) -> (B, N, T, D).

    What a CPU trains on goes by `causal_attention`; its fused kernel, whose backward pass is slow, is for the rest.
    """
    batch, heads, time, size = queries.shape
    if time == 1 and not causal and batch > 1 and queries.device.type == "cpu":
        return attend_once(queries, keys, values, attn_mask)
    on_cpu = queries.device.type == "cpu" and not torch.compiler.is_compiling()
    if on_cpu and causal and torch.is_grad_enabled() and time <= LONGEST and keys.shape[1] == heads:
        parts = (one.flatten(0, 1).to(values.dtype) for one in (queries, keys, values))  # (B N, T, D)
        return causal_attention(*parts).view(batch, heads, time, size)
    grouped = keys.shape[1] < heads
    return F.scaled_dot_product_attention(
        queries, keys, values, attn_mask=attn_mask, is_causal=causal, enable_gqa=grouped
    )


def attend_once(queries: Tensor, keys: Tensor, values: Tensor, attn_mask: Tensor | None) -> Tensor:
    """What one token sees, as `attend`, in plain products: a quarter of the fused kernel's time at 16 rows."""
    batch, heads, _, size = queries.shape
    grouped = queries.reshape(batch * keys.shape[1], -1, size)  # (B K, N / K, D)
    scores = torch.bmm(grouped * size**-0.5, keys.flatten(0, 1).transpose(1, 2))  # (B K, N / K, S)
    if attn_mask is not None:
        scores = scores.view(*keys.shape[:2], -1, keys.shape[2]).masked_fill(~attn_mask, -torch.inf).view_as(scores)
    return torch.bmm(scores.softmax(-1), values.flatten(0, 1)).view(batch, heads, 1, size)


def up_to(positions: Tensor, keys: int, window: int | None = None) -> Tensor:
    """Which of the first `keys` tokens those at `positions` (1 or B, T) may look at: (1 or B, 1, T, keys), True or not.

    Themselves and those before; with a `window` only so many, themselves among them (arXiv 2004.05150, section 3.1).
    """
    from_them = positions.unsqueeze(-1) - torch.arange(keys, device=positions.device)  # how far back each token stands
    seen = from_them >= 0 if window is None else (from_them >= 0) & (from_them < window)
    return seen.unsqueeze(1)
