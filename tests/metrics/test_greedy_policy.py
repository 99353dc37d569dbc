"""How an agent acts when it is measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from aibig.metrics.greedy_policy import evaluation_policy


class Second(nn.Module):
    """Likes the second action best."""

    distribution = None

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return torch.tensor([0.0, 1.0, 0.5]).expand(len(observations), 3)


def actions(epsilon: float, seed: int = 0, mask: np.ndarray | None = None) -> np.ndarray:
    policy = evaluation_policy(Second(), torch.device("cpu"), 3, epsilon, seed)
    return policy(np.zeros((30_000, 2), np.float32), mask)


def test_it_is_greedy_but_for_a_chance_of_random_actions() -> None:
    assert (actions(0.0) == 1).all()
    shares = np.bincount(actions(0.3), minlength=3) / 30_000
    assert shares.tolist() == pytest.approx([0.1, 0.8, 0.1], abs=0.01)
    assert np.array_equal(actions(0.3, 5), actions(0.3, 5)) and not np.array_equal(actions(0.3, 5), actions(0.3, 6))


def test_it_takes_no_action_that_is_not_allowed() -> None:
    mask = np.tile([True, False, True], (30_000, 1))
    shares = np.bincount(actions(0.5, mask=mask), minlength=3) / 30_000
    assert shares.tolist() == pytest.approx([0.25, 0.0, 0.75], abs=0.01)
