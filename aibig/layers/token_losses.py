"""What the loss of each token is made of, from the states before a head. Knows no model and no mean.

N tokens, C channels, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

# How many logits stand in memory at once. Up to so many, what the backward pass needs of them is kept; beyond, they
# are made slice by slice, and again in the backward pass, which is a third more work. In fp32 2**25 are 128 MiB: about
# 600 tokens of GPT-2's vocabulary. Accelerators have the memory for all of a usual batch's: 2**30 in bf16 are 2 GiB.
LOGITS_AT_ONCE = {"cpu": 2**25, "cuda": 2**30}


class TokenScores(NamedTuple):
    """What a loss is made of, token by token, in fp32: so logits (N, V) need not stand in memory.

    logsumexp (N): the logarithm of the summed exponentials of the logits. target_logit (N): of the target.
    mean_logit (N): over the vocabulary. states: outputs (N, C) that a loss may hold down, (raw, dropped).
    """

    logsumexp: Tensor
    target_logit: Tensor
    mean_logit: Tensor
    states: tuple[Tensor, ...] | None = None

    @property
    def nats(self) -> Tensor:
        """The cross-entropy (N) of each target."""
        return self.logsumexp - self.target_logit


def token_scores(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, *, cap: float | None = None
) -> TokenScores:
    """hidden (..., C), weight (V, C), bias (V), targets (...) -> TokenScores of (...); cap: see `capped`.

    Every target counts: take out before what does not. Gradients are exact for any of the three scores'.
    """
    at_once = max(1, LOGITS_AT_ONCE.get(hidden.device.type, LOGITS_AT_ONCE["cpu"]) // len(weight))
    few = len(weight) <= hidden.shape[-1]  # logits are small beside states: there is nothing to gain
    if few and targets.numel() <= at_once:
        return scores_of(capped(F.linear(hidden, weight, bias), cap), targets)
    flat, device = hidden.flatten(0, -2), hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    apply = _Scores.apply if len(flat) <= at_once else torch.compiler.disable(_Scores.apply)
    scores = apply(flat, weight, bias, targets.flatten(), cap, dtype, at_once)
    if cap is None:  # the mean of linear functions is a linear function, and costs little beside them
        mean_bias = 0.0 if bias is None else bias.mean()
        scores = (*scores, (flat * weight.mean(0)).sum(1, dtype=scores[0].dtype) + mean_bias)
    return TokenScores(*(one.view(targets.shape) for one in scores))


def scores_of(logits: Tensor, targets: Tensor) -> TokenScores:
    """logits (..., V), targets (...) -> TokenScores of (...), for logits that stand in memory anyway."""
    logits, index = logits.to(_wide(logits.dtype)), targets.unsqueeze(-1)
    target_logit = logits.gather(-1, index)
    logsumexp = target_logit - F.log_softmax(logits, -1).gather(-1, index)  # logsumexp takes longer
    return TokenScores(logsumexp.squeeze(-1), target_logit.squeeze(-1), logits.mean(-1))


def capped(logits: Tensor, cap: float | None) -> Tensor:
    """cap * tanh(logits / cap): none is larger than `cap` (Gemma 2, arXiv 2408.00118, section 2)."""
    return logits if cap is None else cap * torch.tanh(logits / cap)


class _Scores(torch.autograd.Function):
    """Scores of tokens, slice by slice. hidden and weight enter the matrix products in `dtype`, sums are in fp32."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        cap: float | None,
        dtype: torch.dtype,
        at_once: int,
    ) -> tuple[Tensor, ...]:
        """hidden (N, C), targets (N) -> logsumexp, target_logit and, with a cap, mean_logit, (N) each."""
        ctx.cap, ctx.dtype, ctx.at_once = cap, dtype, at_once
        found, kept = [], []
        with torch.autocast(hidden.device.type, enabled=False):
            head = _narrow(weight, bias, dtype)
            for some, some_targets in zip(hidden.split(at_once), targets.split(at_once), strict=True):
                scores, parts = _score(some.to(dtype), *head, some_targets, cap)
                found.append(scores)
                kept = list(parts) if len(some) == len(hidden) else []
        ctx.save_for_backward(hidden, weight, bias, targets, *kept)
        return found[0] if len(found) == 1 else tuple(torch.cat(one) for one in zip(*found, strict=True))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of hidden, weight and bias."""
        hidden, weight, bias, targets, *kept = ctx.saved_tensors
        columns = [one.split(ctx.at_once) for one in (hidden, targets, *upstream)]
        of_hidden: list[Tensor] = []
        of_head: list[Tensor] = []
        with torch.autocast(hidden.device.type, enabled=False):
            head = _narrow(weight, bias, ctx.dtype)
            for some, some_targets, *some_upstream in zip(*columns, strict=True):
                some = some.to(ctx.dtype)
                parts = _Parts(*kept) if kept else _score(some, *head, some_targets, ctx.cap)[1]
                by_hidden, *by_head = _gradients(some, *head, some_targets, parts, some_upstream)
                of_hidden.append(by_hidden)
                of_head = [one.add_(more) for one, more in zip(of_head, by_head, strict=True)] if of_head else by_head
        of_weight, of_bias = of_head[0].to(weight.dtype), None if bias is None else of_head[1].to(bias.dtype)
        return torch.cat(of_hidden).to(hidden.dtype), of_weight, of_bias, None, None, None, None


class _Parts(NamedTuple):
    """What the gradients of N tokens' scores with respect to their logits before the cap are made of.

    That of a token's logsumexp is its row of `shares` and, at the target, `target_share`; that of its
    target_logit is `target_slope` at the target; that of its mean_logit is its row of `slopes`. The target stands
    apart so that in bf16 its share less one keeps its digits, and so that the matrices need no pass of their own.
    """

    shares: Tensor  # (N, V), 0 at the target
    target_share: Tensor  # (N, 1)
    slopes: Tensor | None  # (N, V): of the cap, divided by V; None without one
    target_slope: Tensor | None  # (N, 1)


def _narrow(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    return weight.to(dtype), None if bias is None else bias.to(dtype)


def _score(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, cap: float | None
) -> tuple[tuple[Tensor, ...], _Parts]:
    """The scores of a slice, (N) each, and the parts of their gradients."""
    index = targets.unsqueeze(1)
    logits = F.linear(hidden, weight, bias)  # (N, V)
    logits = capped(logits.to(_wide(logits.dtype)), cap)
    target_logit, largest = logits.gather(1, index), logits.amax(1)
    mean: tuple[Tensor, ...] = ()
    slopes = target_slope = None
    if cap is not None:
        mean = (logits.mean(1),)
        slopes = 1.0 - (logits / cap).square_()
        target_slope = slopes.gather(1, index)
    shares = torch.softmax(logits, 1, out=logits)
    logsumexp = largest - shares.amax(1).log()  # the largest share is at least 1 / V: its logarithm is exact
    target_share = shares.gather(1, index)
    shares.scatter_(1, index, 0.0)
    if slopes is not None:
        shares.mul_(slopes)
        slopes = slopes.div_(len(weight)).to(hidden.dtype)
    scores = (logsumexp, target_logit.squeeze(1), *mean)
    return scores, _Parts(shares.to(hidden.dtype), target_share, slopes, target_slope)


def _gradients(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, parts: _Parts, upstream: list[Tensor]
) -> tuple[Tensor, ...]:
    """What a slice gives to the gradients of hidden (N, C), weight (V, C) and bias (V), if there is one."""
    factor, to_target, *to_mean = (one.unsqueeze(1) for one in upstream)
    matrix, at_target = parts.shares, factor * parts.target_share + to_target  # (N, V), (N, 1)
    if parts.slopes is not None and parts.target_slope is not None:
        at_target = at_target * parts.target_slope
        matrix = (factor * matrix + to_mean[0] * parts.slopes).to(matrix.dtype)
        factor = torch.ones_like(factor)
    of_hidden = factor * _product(matrix, weight) + at_target * weight[targets]
    of_weight = _product(matrix.t(), (factor * hidden).to(matrix.dtype)).to(at_target.dtype)
    of_weight.index_add_(0, targets, at_target * hidden)
    if bias is None:
        return of_hidden, of_weight
    of_bias = (matrix.t() @ factor.squeeze(1).to(matrix.dtype)).to(at_target.dtype)
    return of_hidden, of_weight, of_bias.index_add_(0, targets, at_target.squeeze(1))


def _product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right (rows, columns), each row from a multiple of 32 bytes on: else MKL takes a third longer."""
    columns = right.shape[1]
    if left.device.type != "cpu" or columns % 8 == 0 or torch.compiler.is_compiling():
        return left @ right
    return torch.mm(left, right, out=left.new_empty(len(left), columns + -columns % 8)[:, :columns])


def _wide(dtype: torch.dtype) -> torch.dtype:
    """fp32, or float64 as it is: what sums are made in."""
    return torch.promote_types(dtype, torch.float32)
