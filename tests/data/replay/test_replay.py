"""Replay: what is drawn is what was put in, and only the latest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from aibig.data.replay.base import EnvStep, ReplaySpec
from aibig.data.replay.replay import Replay as Ring


class Replay(Ring):
    """Of one-step transitions of any number of environments."""

    def __init__(self, shape: tuple[int, ...], **settings: Any) -> None:
        super().__init__(ReplaySpec(shape, 3), **settings)

    def put(self, observation: Any, action: Any, reward: Any, after: Any, discount: Any) -> None:
        count = len(action)
        self._put(observation.reshape(count, -1), action, reward, after.reshape(count, -1), discount)


def put(replay: Replay, first: int, count: int) -> None:
    """Transitions whose every part tells their number."""
    number = np.arange(first, first + count, dtype=np.float32)
    observation = np.stack([number, -number], 1)
    replay.put(observation, np.arange(first, first + count) % 3, number / 10, observation + 0.5, 0.9 * (number % 2))


@pytest.mark.parametrize("count", [1, 4, 7])
def test_what_is_drawn_belongs_together_and_is_of_the_latest(count: int) -> None:
    replay = Replay((2,), capacity=20)
    for first in range(0, 70, count):
        put(replay, first, count)
    added = -(-70 // count) * count
    drawn = replay.sample(2000, torch.Generator().manual_seed(0))
    numbers = drawn.observation[:, 0]
    assert sorted(set(numbers.int().tolist())) == list(range(added - 20, added))
    assert torch.equal(drawn.observation[:, 1], -numbers)
    assert torch.equal(drawn.next_observation, drawn.observation + 0.5)
    assert torch.equal(drawn.action, numbers.long() % 3)
    torch.testing.assert_close(drawn.reward, numbers / 10)
    torch.testing.assert_close(drawn.discount, 0.9 * (numbers % 2))


def test_draws_are_uniform() -> None:
    replay = Replay((2,), capacity=50)
    put(replay, 0, 50)
    counts = torch.bincount(replay.sample(50_000, torch.Generator().manual_seed(1)).observation[:, 0].long())
    assert len(counts) == 50 and counts.min() > 850 and counts.max() < 1150  # 1000 +- 31 each


def test_an_observation_of_any_shape_comes_back() -> None:
    replay = Replay((2, 3), capacity=5)
    observation = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    replay.put(observation, np.array([0, 1]), np.zeros(2), observation, np.zeros(2))
    drawn = replay.sample(20, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.observation, torch.from_numpy(observation)[drawn.action])


def test_bytes_of_pictures_come_back_as_bytes() -> None:
    replay = Ring(ReplaySpec((2, 3), 3, observation_dtype=torch.uint8), capacity=5)
    seen, nothing = np.arange(6, dtype=np.uint8).reshape(1, 2, 3) * 50, np.zeros(1, bool)
    replay.add(EnvStep(seen, np.zeros(1, int), np.zeros(1, np.float32), seen, nothing, nothing, ~nothing))
    drawn = replay.sample(2, torch.Generator())
    assert drawn.observation.dtype == torch.uint8 and np.array_equal(drawn.next_observation[0].numpy(), seen[0])


def test_state_goes_on_exactly() -> None:
    replay, other = Replay((2,), capacity=20), Replay((2,), capacity=20)
    put(replay, 0, 33)
    other.load_state_dict(replay.state_dict())
    put(replay, 33, 5)
    put(other, 33, 5)
    draws = [one.sample(64, torch.Generator().manual_seed(2)) for one in (replay, other)]
    for ours, theirs in zip(*draws, strict=True):
        assert ours is theirs is None or torch.equal(ours, theirs)
