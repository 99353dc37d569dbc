"""How far a Q-network's output is from what it should be, row by row. Pure functions; knows no network.

B transitions, A actions, N atoms or quantiles of the value, M of its target.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from aibig.layers.q.value_distributions import Categorical

Errors = tuple[Tensor, Tensor]  # the loss of each row, and the size of its error, which is its priority: (B,) each


def huber_loss(value: Tensor, target: Tensor) -> Errors:
    """Of values (B,): squared up to an error of 1, then straight (Mnih et al. 2015, Methods: error clipped to +-1)."""
    return F.smooth_l1_loss(value, target, reduction="none"), (value.detach() - target).abs()


def categorical_loss(logits: Tensor, target: Tensor) -> Errors:
    """Cross-entropy of logits with target probabilities, (B, N) both; as error, the divergence (Rainbow, section 3)."""
    loss = -(target * logits.log_softmax(-1)).sum(-1)
    divergence = loss.detach() - torch.special.entr(target).sum(-1)
    return loss, divergence.clamp(min=0.0)  # rounding alone makes it negative


def quantile_loss(values: Tensor, fractions: Tensor, target: Tensor) -> Errors:
    """Quantile Huber loss of values (B, N) at fractions (N) or (B, N) against samples (B, M) of the target.

    Summed over N and averaged over M, with errors clipped to +-1 (arXiv 1710.10044, eq. 10;
    arXiv 1806.06923, eq. 3).
    """
    errors = target.unsqueeze(1) - values.unsqueeze(2)  # (B, N, M)
    below = (errors.detach() < 0).to(errors.dtype)
    huber = F.smooth_l1_loss(errors, torch.zeros_like(errors), reduction="none")
    loss = ((fractions.unsqueeze(-1) - below).abs() * huber).mean(2).sum(1)
    return loss, (target.mean(1) - values.detach().mean(1)).abs()


def projected(probabilities: Tensor, reward: Tensor, discount: Tensor, atoms: Categorical) -> Tensor:
    """Probabilities (B, N) of reward + discount * support, shared out to the two atoms next to each.

    reward, discount: (B,). What falls beyond the support goes to its ends (arXiv 1707.06887, algorithm 1).
    """
    shifted = (reward.unsqueeze(1) + discount.unsqueeze(1) * atoms.support).clamp(atoms.low, atoms.high)  # (B, N)
    place = (shifted - atoms.low) * ((atoms.atoms - 1) / (atoms.high - atoms.low))
    lower = place.floor().clamp(max=atoms.atoms - 2)
    upper_share = place - lower
    found = torch.zeros_like(probabilities)
    found.scatter_add_(1, lower.long(), probabilities * (1 - upper_share))
    return found.scatter_add_(1, lower.long() + 1, probabilities * upper_share)


def best_actions(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """The action (B,) of the largest of values (B, A); of those that `mask` (B, A) allows."""
    return (values if mask is None else values.masked_fill(~mask, -torch.inf)).argmax(1)


def soft_policy(values: Tensor, temperature: float, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Probabilities of actions, softmax(values / temperature), and their logarithms: (B, A) -> (B, A) each.

    Masked actions have probability 0, and 0 in place of their logarithm, so that products with it are 0; so have all
    where none is allowed, which is what some environments say of an episode's end.
    """
    if mask is None:
        logs = (values / temperature).log_softmax(1)
        return logs.exp(), logs
    logs = (values / temperature).masked_fill(~mask, -torch.inf).log_softmax(1)
    return logs.exp().masked_fill(~mask, 0.0), logs.masked_fill(~mask, 0.0)
