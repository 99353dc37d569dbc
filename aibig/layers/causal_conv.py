"""Short causal convolutions: each token mixed with the few before it, channel by channel. Knows no model.

B batch, T time, C channels, K kernel size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aibig.layers.attention.kv_cache import KVCache


class CausalConv(nn.Module):
    """x[t] + sum over k of weight[k] * x[t - k]: a residual depthwise convolution, at first the identity.

    As before attention and feed-forward in Canon layers (Allen-Zhu 2025, Physics of Language Models 4.1; after queries,
    keys and values in Primer, arXiv 2109.08668, section 4).

    Args:
        width: C.
        kernel_size: K, number of tokens mixed, the token itself among them.
    """

    def __init__(self, width: int, kernel_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(kernel_size, width))

    def forward(
        self, inputs: Tensor, kv_cache: KVCache | None = None, name: str = "", document_ids: Tensor | None = None
    ) -> Tensor:
        """The mixed tokens, (B, T, C).

        Args:
            inputs: (B, T, C).
            kv_cache: holds the inputs before these, and takes these.
            name: of this layer's inputs in the cache.
            document_ids: number of the document that each token belongs to, (B, T). Tokens of other documents are
                not mixed in.
        """
        past = len(self.weight) - 1
        if kv_cache is not None and inputs.shape[1] == 1:
            window = kv_cache.append_with_past(name, inputs, past)  # (B, K, C)
            return inputs + (window * self.weight.flip(0)).sum(1, keepdim=True)
        if kv_cache is not None:
            return causal_conv(kv_cache.append_with_past(name, inputs, past), self.weight)[:, past:]
        if document_ids is None:
            return causal_conv(inputs, self.weight)
        outputs = inputs * (1 + self.weight[0])
        for lag in range(1, past + 1):
            same_document = (document_ids[:, lag:] == document_ids[:, :-lag]).unsqueeze(2)
            outputs[:, lag:] += inputs[:, :-lag] * self.weight[lag] * same_document
        return outputs


def causal_conv(inputs: Tensor, weight: Tensor) -> Tensor:
    """The residual convolution as a function. A compiler fuses the plain operations by itself.

    Args:
        inputs: (B, T, C).
        weight: (K, C).
    """
    if torch.compiler.is_compiling():
        padded = F.pad(inputs, (0, 0, len(weight) - 1, 0))
        windows = padded.unfold(1, len(weight), 1).flip(-1)  # (B, T, C, K), the token itself first
        return inputs + (windows * weight.T).sum(-1)
    return _CausalConv.apply(inputs, weight.to(inputs.dtype))


class _CausalConv(torch.autograd.Function):
    """In as few passes over memory as possible: half the time of its single operations, or of nn.Conv1d."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor) -> Tensor:
        """(B, T, C), (K, C) -> (B, T, C)."""
        ctx.save_for_backward(inputs, weight)
        outputs = inputs * (1 + weight[0])
        for lag in range(1, min(len(weight), inputs.shape[1])):
            outputs[:, lag:].addcmul_(inputs[:, :-lag], weight[lag])
        return outputs

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        """For the inputs, the same convolution backwards in time; for each weight, a product summed over tokens."""
        inputs, weight = ctx.saved_tensors
        grad_inputs = grad_output * (1 + weight[0])
        grad_weight = torch.zeros_like(weight)
        grad_weight[0] = (grad_output * inputs).sum((0, 1))
        for lag in range(1, min(len(weight), inputs.shape[1])):
            later, earlier = grad_output[:, lag:], inputs[:, :-lag]
            grad_inputs[:, :-lag].addcmul_(later, weight[lag])
            grad_weight[lag] = (later * earlier).sum((0, 1))
        return grad_inputs, grad_weight
