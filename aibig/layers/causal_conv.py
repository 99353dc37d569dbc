"""Each token mixed with the few before it, channel by channel. Knows no model.

B batch, T time, C channels, K tokens in sight.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aibig.layers.attention.kv_cache import KVCache


class CausalConv(nn.Module):
    """x[t] + sum over k of weight[k] * x[t - k]: a depthwise convolution, (B, T, C) -> (B, T, C); first the identity.

    As before attention and feed-forward in Canon layers (Allen-Zhu 2025, Physics of Language Models 4.1; after queries,
    keys and values in Primer, arXiv 2109.08668, section 4). kernel: K, the token itself among them.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(kernel, width))

    def forward(
        self, inputs: Tensor, kv_cache: KVCache | None = None, name: str = "", documents: Tensor | None = None
    ) -> Tensor:
        """kv_cache: keeps the tokens before these under `name`. documents (B, T): tokens see no other than their own."""
        before = len(self.weight) - 1
        if kv_cache is not None and inputs.shape[1] == 1:
            seen = kv_cache.before(name, inputs, before)  # (B, K, C)
            return inputs + (seen * self.weight.flip(0)).sum(1, keepdim=True)
        if kv_cache is not None:
            return mix(kv_cache.before(name, inputs, before), self.weight)[:, before:]
        if documents is None:
            return mix(inputs, self.weight)
        mixed = inputs * (1 + self.weight[0])
        for back in range(1, before + 1):
            same = (documents[:, back:] == documents[:, :-back]).unsqueeze(2)
            mixed[:, back:] += inputs[:, :-back] * self.weight[back] * same
        return mixed


def mix(inputs: Tensor, weight: Tensor) -> Tensor:
    """The convolution alone. A compiler fuses the plain operations by itself."""
    if torch.compiler.is_compiling():
        padded = F.pad(inputs, (0, 0, len(weight) - 1, 0))
        shifted = padded.unfold(1, len(weight), 1).flip(-1)  # (B, T, C, K), the token itself first
        return inputs + (shifted * weight.T).sum(-1)
    return Mix.apply(inputs, weight.to(inputs.dtype))


class Mix(torch.autograd.Function):
    """In as few passes over kv_cache as can be: half the time of the operations it is made of, or of a convolution."""

    @staticmethod
    def forward(context: Any, inputs: Tensor, weight: Tensor) -> Tensor:
        """(B, T, C), (K, C) -> (B, T, C)."""
        context.save_for_backward(inputs, weight)
        mixed = inputs * (1 + weight[0])
        for back in range(1, min(len(weight), inputs.shape[1])):
            mixed[:, back:].addcmul_(inputs[:, :-back], weight[back])
        return mixed

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Of the inputs, the same convolution run backwards; of each weight, a product summed over tokens."""
        inputs, weight = context.saved_tensors
        of_inputs = gradient * (1 + weight[0])
        of_weight = torch.zeros_like(weight)
        of_weight[0] = (gradient * inputs).sum((0, 1))
        for back in range(1, min(len(weight), inputs.shape[1])):
            later, earlier = gradient[:, back:], inputs[:, :-back]
            of_inputs[:, :-back].addcmul_(later, weight[back])
            of_weight[back] = (later * earlier).sum((0, 1))
        return of_inputs, of_weight
