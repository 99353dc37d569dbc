"""Transitions over several steps against sums written out episode by episode."""

from __future__ import annotations

import numpy as np
import pytest

from aibig.data.replay.base import EnvStep, ReplaySpec
from aibig.data.replay.n_step import NStep
from aibig.data.replay.replay import Replay

DISCOUNT = 0.9


def play(steps: int, length: int, reload_at: int | None = None) -> tuple[list, list]:
    """What NStep yields for random steps of 3 environments, and what it should, both sorted."""
    generator = np.random.default_rng(1)
    window, found = NStep(steps, DISCOUNT), []
    episodes: list[list[list[tuple]]] = [[[]] for _ in range(3)]
    at = np.arange(3, dtype=np.float32) * 1000
    ended = np.zeros(3, bool)
    for time in range(length):
        is_transition = ~ended  # what has ended is reset by the next step
        reward = generator.normal(size=3).astype(np.float32)
        ended, terminated = generator.random(3) < 0.25, generator.random(3) < 0.5
        ended &= is_transition
        terminated &= ended
        before, after = at[:, None], at[:, None] + np.where(is_transition, 1, 10)[:, None].astype(np.float32)
        for rows in window.add(before, np.full(3, time), reward, after, terminated, ended, is_transition):
            found += [tuple(float(part.flat[0]) for part in row) for row in zip(*rows, strict=True)]
        for env in np.flatnonzero(is_transition):
            episodes[env][-1].append((at[env], time, reward[env], terminated[env]))
            if ended[env]:
                episodes[env].append([])
        at = after[:, 0]
        if time == reload_at:
            state = window.state_dict()
            window = NStep(steps, DISCOUNT)
            window.load_state_dict(state)
    expected = []
    for env in range(3):
        *complete, open_one = episodes[env]
        for episode in [*complete, open_one]:
            for first in range(len(episode)):
                last = min(first + steps, len(episode)) - 1
                if episode is open_one and first + steps > len(episode):
                    continue  # still waits
                total = sum(DISCOUNT ** (k - first) * episode[k][2] for k in range(first, last + 1))
                counts = 0.0 if episode[last][3] else DISCOUNT ** (last - first + 1)
                expected.append((episode[first][0], float(episode[first][1]), total, episode[last][0] + 1, counts))
    return sorted(found), sorted(expected)


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
@pytest.mark.parametrize("reload_at", [None, 33])
def test_rewards_are_summed_to_the_nth_step_or_the_episodes_end(steps: int, reload_at: int | None) -> None:
    found, expected = play(steps, 100, reload_at)
    assert len(found) == len(expected) > 200
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_replay_takes_what_any_number_of_environments_gives(count: int) -> None:
    generator = np.random.default_rng(0)
    replay = Replay(ReplaySpec((2,), 2, count, n_step=3, discount=DISCOUNT), capacity=500)
    nothing = np.zeros(count, bool)
    for _ in range(60):
        ended = generator.random(count) < 0.4
        seen = generator.normal(size=(count, 2)).astype(np.float32)
        replay.add(EnvStep(seen, np.zeros(count, int), np.ones(count, np.float32), seen, ended, nothing, ~nothing))
    assert 50 * count < len(replay) <= 60 * count


def test_more_environments_than_the_replay_holds_keep_the_last() -> None:
    replay = Replay(ReplaySpec((1,), 2, 10), capacity=4)
    number, nothing = np.arange(10, dtype=np.float32), np.zeros(10, bool)
    replay.add(EnvStep(number[:, None], np.zeros(10, int), number, number[:, None], nothing, nothing, ~nothing))
    assert sorted(replay._rows[:, 0].tolist()) == [6, 7, 8, 9]


def test_forgotten_steps_are_not_joined_with_what_follows() -> None:
    window, zeros = NStep(2, DISCOUNT), np.zeros(2, np.float32)
    no = np.zeros(2, bool)
    assert not list(window.add(zeros[:, None], zeros, zeros, zeros[:, None], no, no, ~no))
    window.forget([1])
    (rows,) = window.add(zeros[:, None] + 1, zeros, zeros, zeros[:, None] + 2, no, no, ~no)
    assert len(rows[0]) == 1
    (rows,) = window.add(zeros[:, None] + 2, zeros, zeros, zeros[:, None] + 3, no, no, ~no)
    assert rows[0].tolist() == [[1.0], [1.0]]
