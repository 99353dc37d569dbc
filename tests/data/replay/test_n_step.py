"""n-step transitions against sums written out episode by episode."""

from __future__ import annotations

import numpy as np
import pytest

from aibig.data.replay.base import EnvStep, ReplaySpec
from aibig.data.replay.n_step import NStepAccumulator
from aibig.data.replay.replay import TransitionReplayBuffer

DISCOUNT = 0.9


def play(n_step: int, length: int, reload_at: int | None = None) -> tuple[list, list]:
    """What NStepAccumulator yields for random steps of 3 environments, and what it should, both sorted."""
    generator = np.random.default_rng(1)
    accumulator, yielded = NStepAccumulator(n_step, DISCOUNT), []
    episodes: list[list[list[tuple]]] = [[[]] for _ in range(3)]
    at = np.arange(3, dtype=np.float32) * 1000
    ended = np.zeros(3, bool)
    for time in range(length):
        is_transition = ~ended  # what has ended is reset by the next step
        reward = generator.normal(size=3).astype(np.float32)
        ended, terminated = generator.random(3) < 0.25, generator.random(3) < 0.5
        ended &= is_transition
        terminated &= ended
        observation, jump = at[:, None], np.where(is_transition, 1, 10)[:, None].astype(np.float32)
        next_observation, action = observation + jump, np.full(3, time)
        step = (observation, action, reward, next_observation, terminated, ended, is_transition)
        for rows in accumulator.add(*step):
            yielded += [tuple(float(array.flat[0]) for array in row) for row in zip(*rows, strict=True)]
        for env in np.flatnonzero(is_transition):
            episodes[env][-1].append((at[env], time, reward[env], terminated[env]))
            if ended[env]:
                episodes[env].append([])
        at = next_observation[:, 0]
        if time == reload_at:
            state = accumulator.state_dict()
            accumulator = NStepAccumulator(n_step, DISCOUNT)
            accumulator.load_state_dict(state)
    expected = []
    for env in range(3):
        for episode in episodes[env]:
            for first in range(len(episode)):
                last = min(first + n_step, len(episode)) - 1
                if episode is episodes[env][-1] and first + n_step > len(episode):
                    continue  # still pending
                total = sum(DISCOUNT ** (k - first) * episode[k][2] for k in range(first, last + 1))
                discount = 0.0 if episode[last][3] else DISCOUNT ** (last - first + 1)
                expected.append((episode[first][0], float(episode[first][1]), total, episode[last][0] + 1, discount))
    return sorted(yielded), sorted(expected)


@pytest.mark.parametrize("n_step", [1, 2, 3, 5])
@pytest.mark.parametrize("reload_at", [None, 33])
def test_rewards_are_summed_to_the_nth_step_or_the_episodes_end(n_step: int, reload_at: int | None) -> None:
    yielded, expected = play(n_step, 100, reload_at)
    assert len(yielded) == len(expected) > 200
    np.testing.assert_allclose(yielded, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_buffer_takes_any_number_of_environments(count: int) -> None:
    generator = np.random.default_rng(0)
    replay = TransitionReplayBuffer(ReplaySpec((2,), 2, count, n_step=3, discount=DISCOUNT), capacity=500)
    nothing = np.zeros(count, bool)
    for _ in range(60):
        ended = generator.random(count) < 0.4
        observation = generator.normal(size=(count, 2)).astype(np.float32)
        action, reward = np.zeros(count, int), np.ones(count, np.float32)
        replay.add(EnvStep(observation, action, reward, observation, ended, nothing, ~nothing))
    assert 50 * count < len(replay) <= 60 * count


def test_of_more_environments_than_the_capacity_the_last_are_stored() -> None:
    replay = TransitionReplayBuffer(ReplaySpec((1,), 2, 10), capacity=4)
    number, nothing = np.arange(10, dtype=np.float32), np.zeros(10, bool)
    replay.add(EnvStep(number[:, None], np.zeros(10, int), number, number[:, None], nothing, nothing, ~nothing))
    assert sorted(replay._rows[:, 0].tolist()) == [6, 7, 8, 9]


def test_discarded_steps_make_no_transition_with_what_follows() -> None:
    accumulator, zeros = NStepAccumulator(2, DISCOUNT), np.zeros(2, np.float32)
    no = np.zeros(2, bool)
    assert not list(accumulator.add(zeros[:, None], zeros, zeros, zeros[:, None], no, no, ~no))
    accumulator.discard_pending([1])
    (rows,) = accumulator.add(zeros[:, None] + 1, zeros, zeros, zeros[:, None] + 2, no, no, ~no)
    assert len(rows[0]) == 1
    (rows,) = accumulator.add(zeros[:, None] + 2, zeros, zeros, zeros[:, None] + 3, no, no, ~no)
    assert rows[0].tolist() == [[1.0], [1.0]]
