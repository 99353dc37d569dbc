"""Losses of the temporal difference between a Q-network's output and its target. Pure functions; knows no network.

B transitions, A actions, N atoms or quantiles of the value, M of its target.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from aibig.layers.q.value_distributions import CategoricalReturn

# the loss of each transition, and the size of its TD error, which is its priority: (B,) each
LossAndError = tuple[Tensor, Tensor]


def huber_loss(q_values: Tensor, target_q_values: Tensor) -> LossAndError:
    """Squared up to an error of 1, then linear (Mnih et al. 2015, Methods: error clipped to +-1).

    Args:
        q_values: of the actions taken, (B,).
        target_q_values: what they should be, (B,).
    """
    loss = F.smooth_l1_loss(q_values, target_q_values, reduction="none")
    return loss, (q_values.detach() - target_q_values).abs()


def categorical_loss(logits: Tensor, target: Tensor) -> LossAndError:
    """Cross-entropy; as error, the divergence (Rainbow: arXiv 1710.02298, section 3).

    Args:
        logits: of the returns of the actions taken, (B, N).
        target: the probabilities that they should have, (B, N).
    """
    loss = -(target * logits.log_softmax(-1)).sum(-1)
    divergence = loss.detach() - torch.special.entr(target).sum(-1)
    return loss, divergence.clamp(min=0.0)  # rounding alone makes it negative


def quantile_loss(quantiles: Tensor, fractions: Tensor, target: Tensor) -> LossAndError:
    """Quantile Huber loss, summed over N and averaged over M, with errors clipped to +-1.

    (arXiv 1710.10044, eq. 10; arXiv 1806.06923, eq. 3.)

    Args:
        quantiles: of the returns of the actions taken, (B, N).
        fractions: of probability that they belong to, (N,) or (B, N).
        target: samples of what the returns should be, (B, M).
    """
    errors = target.unsqueeze(1) - quantiles.unsqueeze(2)  # (B, N, M)
    is_negative = (errors.detach() < 0).to(errors.dtype)
    huber = F.smooth_l1_loss(errors, torch.zeros_like(errors), reduction="none")
    loss = ((fractions.unsqueeze(-1) - is_negative).abs() * huber).mean(2).sum(1)
    return loss, (target.mean(1) - quantiles.detach().mean(1)).abs()


def td_target(reward: Tensor, discount: Tensor, next_q_values: Tensor) -> Tensor:
    """reward + discount * next_q_values.

    Args:
        reward: (B,).
        discount: (B,).
        next_q_values: values (B,), or quantiles (B, M).

    Returns:
        As next_q_values.
    """
    if next_q_values.ndim == 2:
        reward, discount = reward.unsqueeze(1), discount.unsqueeze(1)
    return reward + discount * next_q_values


def project_distribution(
    probabilities: Tensor, reward: Tensor, discount: Tensor, distribution: CategoricalReturn
) -> Tensor:
    """Probabilities of reward + discount * support, shared out to the two nearest atoms of the support.

    What falls beyond the support goes to its ends (arXiv 1707.06887, algorithm 1).

    Args:
        probabilities: of the next returns, (B, N).
        reward: (B,).
        discount: (B,).
        distribution: whose support it is.

    Returns:
        (B, N).
    """
    value_min, value_max, last = distribution.value_min, distribution.value_max, len(distribution.support) - 1
    returns = reward.unsqueeze(1) + discount.unsqueeze(1) * distribution.support  # (B, N)
    positions = (returns.clamp(value_min, value_max) - value_min) * (last / (value_max - value_min))  # in atoms
    lower = positions.floor().clamp(max=last - 1)
    upper_share = positions - lower
    projected = torch.zeros_like(probabilities)
    projected.scatter_add_(1, lower.long(), probabilities * (1 - upper_share))
    return projected.scatter_add_(1, lower.long() + 1, probabilities * upper_share)


def gather_actions(output: Tensor, actions: Tensor) -> Tensor:
    """The output of one action in each row.

    Args:
        output: of a Q-network, (B, A) or (B, A, N).
        actions: (B,).

    Returns:
        (B,) or (B, N).
    """
    return output[torch.arange(len(actions), device=actions.device), actions]


def best_actions(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """The action of the highest value.

    Args:
        values: of actions, (B, A).
        mask: the actions that are allowed, (B, A); None for all.

    Returns:
        (B,).
    """
    return (values if mask is None else values.masked_fill(~mask, -torch.inf)).argmax(1)


def soft_policy(values: Tensor, temperature: float, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Probabilities of actions, softmax(values / temperature), and their logarithms.

    Masked actions have probability 0, and 0 in place of their logarithm, so that products with it are 0. Rows
    without any allowed action, which some environments return at an episode's end, are all 0.

    Args:
        values: of actions, (B, A).
        temperature: in units of the values.
        mask: the actions that are allowed, (B, A); None for all.

    Returns:
        (B, A) each.
    """
    if mask is None:
        logs = (values / temperature).log_softmax(1)
        return logs.exp(), logs
    logs = (values / temperature).masked_fill(~mask, -torch.inf).log_softmax(1)
    return logs.exp().masked_fill(~mask, 0.0), logs.masked_fill(~mask, 0.0)
