"""Priorities: sampled in proportion, whatever was changed before."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aibig.data.replay.base import EnvStep, ReplaySpec
from aibig.data.replay.priorities import Priorities, importance_weights
from aibig.data.replay.replay import TransitionReplayBuffer


@pytest.mark.parametrize("capacity", [1, 7, 64, 100, 5_000])
def test_samples_are_in_proportion_to_the_error_to_the_power_of_alpha(capacity: int) -> None:
    generator, torch_generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    priorities = Priorities(capacity, 0.6)
    priorities.add(np.arange(capacity))
    for _ in range(20):  # also those that are overwritten, several times in one call
        indices = generator.integers(capacity, size=16)
        priorities.update(torch.from_numpy(indices), torch.from_numpy(generator.exponential(size=16)))
    errors = torch.from_numpy(generator.exponential(size=capacity))
    priorities.update(torch.arange(capacity), errors)
    expected = (errors.numpy() + 1e-6) ** 0.6
    expected /= expected.sum()
    indices, probabilities = priorities.sample(20_000, torch_generator)
    np.testing.assert_allclose(probabilities, expected[indices], rtol=1e-9)
    counts = np.bincount(indices, minlength=capacity) / 20_000
    np.testing.assert_allclose(counts, expected, atol=2 / 20_000)  # stratified: a part is hit once


def test_what_is_removed_is_never_sampled_and_an_old_error_does_not_bring_it_back() -> None:
    priorities = Priorities(50, 1.0)
    priorities.add(np.arange(50))
    priorities.remove(np.arange(10, 40))
    priorities.update(torch.arange(5, 15), torch.full((10,), 3.0))
    indices, _ = priorities.sample(5_000, torch.Generator().manual_seed(0))
    assert set(indices.tolist()) == {*range(10), *range(40, 50)}
    assert (indices >= 5)[indices < 10].mean() == pytest.approx(3 / 4, abs=0.01)


def test_what_is_new_has_the_largest_priority_so_far() -> None:
    priorities = Priorities(4, 1.0)
    priorities.add(np.array([0, 1]))
    priorities.update(torch.tensor([0]), torch.tensor([7.0]))
    priorities.add(np.array([2]))
    _, probabilities = priorities.sample(3, torch.Generator().manual_seed(0))
    indices, probabilities = priorities.sample(1_000, torch.Generator().manual_seed(0))
    shares = dict(zip(indices.tolist(), probabilities.tolist(), strict=True))
    assert shares[0] == pytest.approx(7 / 15, rel=1e-5) and shares[2] == pytest.approx(7 / 15, rel=1e-5)


def test_an_error_that_is_not_finite_counts_as_the_largest() -> None:
    priorities = Priorities(4, 0.5)
    priorities.add(np.arange(4))
    priorities.update(torch.tensor([0, 1]), torch.tensor([torch.nan, torch.inf]))
    indices, _ = priorities.sample(400, torch.Generator().manual_seed(0))
    assert np.bincount(indices).tolist() == [100] * 4


def test_weights_make_up_for_what_is_sampled_more_often() -> None:
    probabilities = np.array([0.1, 0.2, 0.4])
    full = importance_weights(probabilities, 1.0).double().numpy()
    np.testing.assert_allclose(full, [1.0, 0.5, 0.25], rtol=1e-6)
    np.testing.assert_allclose(importance_weights(probabilities, 0.5).numpy(), [1.0, 0.5**0.5, 0.5], rtol=1e-6)


def test_a_prioritised_buffer_samples_by_its_errors_and_resumes_exactly() -> None:
    spec, nothing = ReplaySpec((1,), 2, 4, priority_exponent=1.0), np.zeros(4, bool)
    replay, other = TransitionReplayBuffer(spec, capacity=32), TransitionReplayBuffer(spec, capacity=32)
    for first in range(0, 48, 4):
        number = np.arange(first, first + 4, dtype=np.float32)
        replay.add(EnvStep(number[:, None], np.zeros(4, int), number, number[:, None], nothing, nothing, ~nothing))
    batch = replay.sample(320, torch.Generator().manual_seed(0))
    assert torch.equal(batch.observation[:, 0], batch.reward) and batch.reward.min() == 16
    replay.update_priorities(batch.indices, (batch.reward == 20).float() * 10)
    batch = replay.sample(320, torch.Generator().manual_seed(0), importance_exponent=1.0)
    assert batch.weight is not None and (batch.reward == 20).float().mean() > 0.99
    assert batch.weight[batch.reward == 20].max() <= 1e-6 or (batch.reward == 20).all()
    other.load_state_dict(replay.state_dict())
    batch, resumed = (buffer.sample(64, torch.Generator().manual_seed(1)) for buffer in (replay, other))
    assert torch.equal(batch.indices, resumed.indices) and torch.equal(batch.observation, resumed.observation)
