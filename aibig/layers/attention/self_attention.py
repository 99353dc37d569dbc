"""Self-attention and its causal mask. Knows no model.

B batch, T time, S keys attended to, C channels, N heads, K key-value heads, D channels of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aibig.layers.attention.causal_attention import MAX_TOKENS, causal_attention
from aibig.layers.attention.kv_cache import KVCache
from aibig.layers.attention.rotary import rotate


class SelfAttention(nn.Module):
    """Multi-head self-attention (arXiv 1706.03762, section 3.2).

    Args:
        width: C.
        heads: N.
        kv_heads: K, a divisor of N; each serves N / K heads (grouped-query attention, arXiv 2305.13245, section 2.2).
            None is N.
        head_width: D; None is C / N.
        bias: whether the linear layers have biases.
        query_key_norm: a norm over D of queries and keys before their rotation (arXiv 2010.04245; as RMSNorm in Qwen3,
            arXiv 2505.09388, section 2), so that attention scores don't grow with the weights. One serves both, since
            they enter only in products. None is no norm.
        dropout: probability of dropout of the outputs.
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
        is_causal: bool = False,
        kv_cache: KVCache | None = None,
        block_index: int = 0,
    ) -> Tensor:
        """The layer's outputs, (B, T, C).

        Args:
            inputs: (B, T, C).
            rotation: of the tokens' positions, see `rotary_angles`, (1 or B, T, D / 2, 2); None for no rotary
                positions.
            attn_mask: True where a token may attend to a key, (1 or B, 1, 1 or T, S).
            is_causal: whether tokens attend to themselves and earlier ones only; an attn_mask takes precedence.
            kv_cache: stores the keys and values of these tokens; the S keys are then all that it holds.
            block_index: number of this layer's block, under which the cache holds its keys and values.
        """
        batch, time, _ = inputs.shape
        heads = self.qkv_proj(inputs).view(batch, time, -1, self.head_width)
        queries_keys, values = heads.split([self.heads + self.kv_heads, self.kv_heads], 2)
        queries_keys = self.norm(queries_keys)
        if rotation is not None:
            queries_keys = rotate(queries_keys, rotation)
        queries, keys = queries_keys.split([self.heads, self.kv_heads], 2)
        if kv_cache is not None:
            keys = kv_cache.append(f"keys {block_index}", keys)
            values = kv_cache.append(f"values {block_index}", values)
        queries, keys, values = (part.transpose(1, 2) for part in (queries, keys, values))  # (B, N or K, T or S, D)
        outputs = attend(queries, keys, values, attn_mask, is_causal and attn_mask is None)
        return self.dropout(self.out_proj(outputs.transpose(1, 2).flatten(2)))


def attend(queries: Tensor, keys: Tensor, values: Tensor, attn_mask: Tensor | None, is_causal: bool) -> Tensor:
    """Scaled dot-product attention, softmax(queries keys^T / sqrt(D)) values, (B, N, T, D).

    Training on a CPU uses `causal_attention` where it applies, since the backward pass of torch's fused kernel is slow
    there. All else uses the fused kernel.

    Args:
        queries: (B, N, T, D).
        keys: (B, K, S, D).
        values: (B, K, S, D).
        attn_mask: True where a query may attend to a key, (1 or B, 1, 1 or T, S); None is everywhere.
        is_causal: whether queries attend up to their own position only; then there is no attn_mask.
    """
    batch, heads, time, size = queries.shape
    if time == 1 and not is_causal and batch > 1 and queries.device.type == "cpu":
        return _attend_single_query(queries, keys, values, attn_mask)
    on_cpu = queries.device.type == "cpu" and not torch.compiler.is_compiling()
    if on_cpu and is_causal and torch.is_grad_enabled() and time <= MAX_TOKENS and keys.shape[1] == heads:
        parts = (part.flatten(0, 1).to(values.dtype) for part in (queries, keys, values))  # (B N, T, D)
        return causal_attention(*parts).view(batch, heads, time, size)
    grouped = keys.shape[1] < heads
    return F.scaled_dot_product_attention(
        queries, keys, values, attn_mask=attn_mask, is_causal=is_causal, enable_gqa=grouped
    )


def _attend_single_query(queries: Tensor, keys: Tensor, values: Tensor, attn_mask: Tensor | None) -> Tensor:
    """`attend` for one query in plain products: a quarter of the fused kernel's time at 16 rows."""
    batch, heads, _, size = queries.shape
    grouped = queries.reshape(batch * keys.shape[1], -1, size)  # (B K, N / K, D)
    scores = torch.bmm(grouped * size**-0.5, keys.flatten(0, 1).transpose(1, 2))  # (B K, N / K, S)
    if attn_mask is not None:
        scores = scores.view(*keys.shape[:2], -1, keys.shape[2]).masked_fill(~attn_mask, -torch.inf).view_as(scores)
    return torch.bmm(scores.softmax(-1), values.flatten(0, 1)).view(batch, heads, 1, size)


def causal_mask(positions: Tensor, keys: int, window: int | None = None) -> Tensor:
    """True where a token may attend to a key: to itself and earlier ones, (1 or B, 1, T, S).

    Args:
        positions: of the tokens, (1 or B, T).
        keys: S.
        window: number of latest keys that a token attends to, itself among them (sliding window attention, arXiv
            2004.05150, section 3.1); None is all.
    """
    distance = positions.unsqueeze(-1) - torch.arange(keys, device=positions.device)  # from a key to the token
    mask = distance >= 0 if window is None else (distance >= 0) & (distance < window)
    return mask.unsqueeze(1)
