"""Transitions are sampled as they were stored, and only the latest."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aibig.data.replay.base import EnvStep, ReplaySpec
from aibig.data.replay.replay import TransitionReplayBuffer


def make_buffer(shape: tuple[int, ...], capacity: int) -> TransitionReplayBuffer:
    """A buffer of transitions with 3 actions."""
    return TransitionReplayBuffer(ReplaySpec(shape, 3), capacity=capacity)


def store(replay: TransitionReplayBuffer, first: int, count: int) -> None:
    """Store transitions whose fields all depend on their number, counted from `first`."""
    number = np.arange(first, first + count, dtype=np.float32)
    observation = np.stack([number, -number], 1)
    replay._store(observation, np.arange(first, first + count) % 3, number / 10, observation + 0.5, 0.9 * (number % 2))


@pytest.mark.parametrize("count", [1, 4, 7])
def test_fields_belong_together_and_are_of_the_latest(count: int) -> None:
    replay = make_buffer((2,), capacity=20)
    for first in range(0, 70, count):
        store(replay, first, count)
    added = -(-70 // count) * count
    batch = replay.sample(2000, torch.Generator().manual_seed(0))
    numbers = batch.observation[:, 0]
    assert sorted(set(numbers.int().tolist())) == list(range(added - 20, added))
    assert torch.equal(batch.observation[:, 1], -numbers)
    assert torch.equal(batch.next_observation, batch.observation + 0.5)
    assert torch.equal(batch.action, numbers.long() % 3)
    torch.testing.assert_close(batch.reward, numbers / 10)
    torch.testing.assert_close(batch.discount, 0.9 * (numbers % 2))


def test_sampling_is_uniform() -> None:
    replay = make_buffer((2,), capacity=50)
    store(replay, 0, 50)
    counts = torch.bincount(replay.sample(50_000, torch.Generator().manual_seed(1)).observation[:, 0].long())
    assert len(counts) == 50 and counts.min() > 850 and counts.max() < 1150  # 1000 +- 31 each


def test_an_observation_of_any_shape_comes_back() -> None:
    replay = make_buffer((2, 3), capacity=5)
    observation = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    flat = observation.reshape(2, 6)
    replay._store(flat, np.array([0, 1]), np.zeros(2), flat, np.zeros(2))
    batch = replay.sample(20, torch.Generator().manual_seed(0))
    assert torch.equal(batch.observation, torch.from_numpy(observation)[batch.action])


def test_bytes_of_images_come_back_as_bytes() -> None:
    replay = TransitionReplayBuffer(ReplaySpec((2, 3), 3, observation_dtype=torch.uint8), capacity=5)
    observation, nothing = np.arange(6, dtype=np.uint8).reshape(1, 2, 3) * 50, np.zeros(1, bool)
    reward = np.zeros(1, np.float32)
    replay.add(EnvStep(observation, np.zeros(1, int), reward, observation, nothing, nothing, ~nothing))
    batch = replay.sample(2, torch.Generator())
    assert batch.observation.dtype == torch.uint8 and np.array_equal(batch.next_observation[0].numpy(), observation[0])


def test_a_buffer_resumes_exactly() -> None:
    replay, other = make_buffer((2,), capacity=20), make_buffer((2,), capacity=20)
    store(replay, 0, 33)
    other.load_state_dict(replay.state_dict())
    store(replay, 33, 5)
    store(other, 33, 5)
    batches = [buffer.sample(64, torch.Generator().manual_seed(2)) for buffer in (replay, other)]
    for tensor, resumed in zip(*batches, strict=True):
        assert tensor is resumed is None or torch.equal(tensor, resumed)
