"""What the losses of tokens are made of, from the hidden states before a head. Knows no model and no mean.

N tokens, C channels, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

# How many logits are in memory at once. Up to so many, what the backward pass needs of them is kept; beyond, they are
# computed chunk by chunk, and again in the backward pass, which is a third more work. In fp32 2**25 are 128 MiB: about
# 600 tokens of GPT-2's vocabulary. Accelerators have the memory for all of a usual batch's: 2**30 in bf16 are 2 GiB.
MAX_LOGITS = {"cpu": 2**25, "cuda": 2**30}


class TokenLossTerms(NamedTuple):
    """What the loss of each token is made of, in fp32, so that its logits, (V,), need not be in memory.

    Args:
        logsumexp: logarithm of the summed exponentials of the logits, (N,).
        target_logit: logit of the target, (N,).
        mean_logit: mean of the logits over the vocabulary, (N,).
        states: hidden states that a loss may regularise, (raw, after dropout), (N, C) each.
    """

    logsumexp: Tensor
    target_logit: Tensor
    mean_logit: Tensor
    states: tuple[Tensor, ...] | None = None

    @property
    def cross_entropy(self) -> Tensor:
        """The cross-entropy of each target in nats, (N,)."""
        return self.logsumexp - self.target_logit


def token_loss_terms(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, *, cap: float | None = None
) -> TokenLossTerms:
    """The scores of targets under a linear head, (...), with exact gradients for any use of the three scores.

    Args:
        hidden: hidden states before the head, (..., C).
        weight: the head's, (V, C).
        bias: the head's, (V,), or None.
        targets: token ids, (...). Every target counts: leave out those that must not.
        cap: of the logits, see `softcap`.
    """
    chunk_size = max(1, MAX_LOGITS.get(hidden.device.type, MAX_LOGITS["cpu"]) // len(weight))
    few = len(weight) <= hidden.shape[-1]  # logits are small beside the hidden states: there is nothing to gain
    if few and targets.numel() <= chunk_size:
        return loss_terms_from_logits(softcap(F.linear(hidden, weight, bias), cap), targets)
    flat, device = hidden.flatten(0, -2), hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    apply = _Scores.apply if len(flat) <= chunk_size else torch.compiler.disable(_Scores.apply)
    scores = apply(flat, weight, bias, targets.flatten(), cap, dtype, chunk_size)
    if cap is None:  # the mean of linear functions is a linear function, and costs little beside them
        mean_bias = 0.0 if bias is None else bias.mean()
        scores = (*scores, (flat * weight.mean(0)).sum(1, dtype=scores[0].dtype) + mean_bias)
    return TokenLossTerms(*(score.view(targets.shape) for score in scores))


def loss_terms_from_logits(logits: Tensor, targets: Tensor) -> TokenLossTerms:
    """The scores of targets, (...), where the logits are in memory anyway.

    Args:
        logits: (..., V).
        targets: token ids, (...).
    """
    logits, index = logits.to(_wide(logits.dtype)), targets.unsqueeze(-1)
    target_logit = logits.gather(-1, index)
    logsumexp = target_logit - F.log_softmax(logits, -1).gather(-1, index)  # Tensor.logsumexp takes longer
    return TokenLossTerms(logsumexp.squeeze(-1), target_logit.squeeze(-1), logits.mean(-1))


def softcap(logits: Tensor, cap: float | None) -> Tensor:
    """cap * tanh(logits / cap): logit soft-capping (Gemma 2, arXiv 2408.00118, section 2).

    Args:
        logits: of any shape.
        cap: that no logit exceeds; None leaves them as they are.
    """
    return logits if cap is None else cap * torch.tanh(logits / cap)


class _Scores(torch.autograd.Function):
    """Scores of tokens, chunk by chunk. hidden and weight enter the matrix products in `dtype`, sums are in fp32."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        cap: float | None,
        dtype: torch.dtype,
        chunk_size: int,
    ) -> tuple[Tensor, ...]:
        """hidden (N, C), targets (N) -> logsumexp, target_logit and, with a cap, mean_logit, (N,) each."""
        ctx.cap, ctx.dtype, ctx.chunk_size = cap, dtype, chunk_size
        chunks, kept = [], []
        with torch.autocast(hidden.device.type, enabled=False):
            head = _narrow(weight, bias, dtype)
            for chunk, chunk_targets in zip(hidden.split(chunk_size), targets.split(chunk_size), strict=True):
                scores, parts = _score(chunk.to(dtype), *head, chunk_targets, cap)
                chunks.append(scores)
                kept = list(parts) if len(chunk) == len(hidden) else []
        ctx.save_for_backward(hidden, weight, bias, targets, *kept)
        return chunks[0] if len(chunks) == 1 else tuple(map(torch.cat, zip(*chunks, strict=True)))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of hidden, weight and bias."""
        hidden, weight, bias, targets, *kept = ctx.saved_tensors
        columns = [tensor.split(ctx.chunk_size) for tensor in (hidden, targets, *grad_outputs)]
        grad_hidden: list[Tensor] = []
        grad_head: list[Tensor] = []
        with torch.autocast(hidden.device.type, enabled=False):
            head = _narrow(weight, bias, ctx.dtype)
            for chunk, chunk_targets, *grads in zip(*columns, strict=True):
                chunk = chunk.to(ctx.dtype)
                parts = _Parts(*kept) if kept else _score(chunk, *head, chunk_targets, ctx.cap)[1]
                for_hidden, *for_head = _gradients(chunk, *head, chunk_targets, parts, grads)
                grad_hidden.append(for_hidden)
                grad_head = list(map(Tensor.add_, grad_head, for_head)) if grad_head else for_head
        grad_weight, grad_bias = grad_head[0].to(weight.dtype), None if bias is None else grad_head[1].to(bias.dtype)
        return torch.cat(grad_hidden).to(hidden.dtype), grad_weight, grad_bias, None, None, None, None


class _Parts(NamedTuple):
    """What the gradients of N tokens' scores with respect to their logits before the cap are made of.

    That of a token's logsumexp is its row of `probabilities` and, at the target, `target_probability`; that of its
    target_logit is `target_slope` at the target; that of its mean_logit is its row of `slopes`. The target is kept
    apart so that in bf16 its probability less one keeps its digits, and so that the matrices need no pass of their own.
    """

    probabilities: Tensor  # (N, V), 0 at the target
    target_probability: Tensor  # (N, 1)
    slopes: Tensor | None  # (N, V): derivative of the cap, divided by V; None without a cap
    target_slope: Tensor | None  # (N, 1)


def _narrow(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    return weight.to(dtype), None if bias is None else bias.to(dtype)


def _score(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, cap: float | None
) -> tuple[tuple[Tensor, ...], _Parts]:
    """The scores of a chunk, (N,) each, and the parts of their gradients."""
    index = targets.unsqueeze(1)
    logits = F.linear(hidden, weight, bias)  # (N, V)
    logits = softcap(logits.to(_wide(logits.dtype)), cap)
    target_logit, largest = logits.gather(1, index), logits.amax(1)
    mean: tuple[Tensor, ...] = ()
    slopes = target_slope = None
    if cap is not None:
        mean = (logits.mean(1),)
        slopes = 1.0 - (logits / cap).square_()
        target_slope = slopes.gather(1, index)
    probabilities = torch.softmax(logits, 1, out=logits)
    logsumexp = largest - probabilities.amax(1).log()  # the largest is at least 1 / V: its logarithm is exact
    target_probability = probabilities.gather(1, index)
    probabilities.scatter_(1, index, 0.0)
    if slopes is not None:
        probabilities.mul_(slopes)
        slopes = slopes.div_(len(weight)).to(hidden.dtype)
    scores = (logsumexp, target_logit.squeeze(1), *mean)
    return scores, _Parts(probabilities.to(hidden.dtype), target_probability, slopes, target_slope)


def _gradients(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, parts: _Parts, grads: list[Tensor]
) -> tuple[Tensor, ...]:
    """A chunk's part of the gradients of hidden (N, C), weight (V, C) and, if there is one, bias (V,)."""
    factor, for_target, *for_mean = (grad.unsqueeze(1) for grad in grads)
    matrix, at_target = parts.probabilities, factor * parts.target_probability + for_target  # (N, V), (N, 1)
    if parts.slopes is not None and parts.target_slope is not None:
        at_target = at_target * parts.target_slope
        matrix = (factor * matrix + for_mean[0] * parts.slopes).to(matrix.dtype)
        factor = torch.ones_like(factor)
    grad_hidden = factor * _product(matrix, weight) + at_target * weight[targets]
    grad_weight = _product(matrix.t(), (factor * hidden).to(matrix.dtype)).to(at_target.dtype)
    grad_weight.index_add_(0, targets, at_target * hidden)
    if bias is None:
        return grad_hidden, grad_weight
    grad_bias = (matrix.t() @ factor.squeeze(1).to(matrix.dtype)).to(at_target.dtype)
    return grad_hidden, grad_weight, grad_bias.index_add_(0, targets, at_target.squeeze(1))


def _product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right, each row of it aligned to 32 bytes, without which MKL takes a third longer."""
    columns = right.shape[1]
    if left.device.type != "cpu" or columns % 8 == 0 or torch.compiler.is_compiling():
        return left @ right
    return torch.mm(left, right, out=left.new_empty(len(left), columns + -columns % 8)[:, :columns])


def _wide(dtype: torch.dtype) -> torch.dtype:
    """The type of sums: fp32, or float64 as it is."""
    return torch.promote_types(dtype, torch.float32)
