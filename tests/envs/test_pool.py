"""Environments in a pool: no transition crosses an episode's end, and any of them is rebuilt exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest

from aibig.envs.episodes import run_episodes
from aibig.envs.pool import EnvPool
from aibig.errors import UserError
from aibig.registry import environments


class Counting(gymnasium.Env[Any, Any]):
    """Counts its steps: observation (episode, step). Ends after 3 steps, in every second episode by truncation.

    Episodes are numbered over resets, so what it gives does not depend on the seed alone.
    """

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self) -> None:
        self.episode, self.count = -1, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.episode, self.count = self.episode + 1, 0
        return np.array([self.episode, 0.0]), {}

    def step(self, action: Any) -> Any:
        self.count += 1
        over = self.count == 3
        ends = over and self.episode % 2 == 0
        return np.array([self.episode, float(self.count)]), float(self.count), ends, over and not ends, {}


class Random(Counting):
    """Depends on its seed."""

    def step(self, action: Any) -> Any:
        _, reward, *rest = super().step(action)
        return self.np_random.normal(size=2) * (1 + action), reward, *rest

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return self.np_random.normal(size=2), {}


class Unseeded(Counting):
    """Gives something else each time."""

    def step(self, action: Any) -> Any:
        observation, *rest = super().step(action)
        return observation + np.random.normal(size=2), *rest


class Broken(Counting):
    """Gives NaN."""

    def step(self, action: Any) -> Any:
        _, _, *rest = super().step(action)
        return np.zeros(2), float("nan"), *rest


def test_no_transition_crosses_an_episodes_end() -> None:
    pool = EnvPool(Counting, count=2)
    with pytest.warns(UserWarning, match="can't be resumed exactly"):
        pool.begin(0)
    first = pool.observation[:, 0].astype(int)  # trying whether it repeats took some
    steps = [pool.step(np.zeros(2, np.int64)) for _ in range(9)]
    for number, step in enumerate(steps):
        count = number % 3
        for copy in range(2):
            episode = first[copy] + number // 3
            assert step.observation[copy].tolist() == [episode, count]
            assert step.next_observation[copy].tolist() == [episode, count + 1]
            assert step.reward[copy] == count + 1
            assert step.terminated[copy] == (count == 2 and episode % 2 == 0)
            assert step.truncated[copy] == (count == 2 and episode % 2 == 1)
        assert step.finished == ([(6.0, 3)] * 2 if count == 2 else [])


@pytest.mark.parametrize("make", [Random, lambda: gymnasium.make("CartPole-v1"), lambda: gymnasium.make("Acrobot-v1")])
def test_a_pool_is_rebuilt_in_the_middle_of_an_episode(make: Callable[[], Any]) -> None:
    pool, other = EnvPool(make, count=3), EnvPool(make, count=3)
    pool.begin(5)
    generator = np.random.default_rng(0)
    for _ in range(40):
        pool.step(generator.integers(pool.actions, size=3))
    other.load_state_dict(pool.state_dict())
    for _ in range(40):
        actions = generator.integers(pool.actions, size=3)
        ours, theirs = pool.step(actions), other.step(actions)
        assert np.array_equal(ours.next_observation, theirs.next_observation)
        assert np.array_equal(ours.reward, theirs.reward) and ours.finished == theirs.finished


def test_an_environment_that_does_not_repeat_is_named() -> None:
    pool, other = EnvPool(Unseeded), EnvPool(Unseeded)
    complaint = "'Unseeded' gives other observations for the same seed"
    with pytest.warns(UserWarning, match=complaint):
        pool.begin(0)
    pool.step(np.zeros(1, np.int64))
    with pytest.warns(UserWarning, match=complaint + ".*begins a new episode"):
        other.load_state_dict(pool.state_dict())
    assert other.restarted == [0]
    assert other.state_dict()["episodes"] == [1] and other.state_dict()["actions"][0].tolist() == []


def test_a_reward_that_is_no_number_is_named() -> None:
    pool = EnvPool(Broken)
    pool.begin(0)
    with pytest.raises(UserError, match=r"'Broken' \(copy 0, episode 0, step 1\)"):
        pool.step(np.zeros(1, np.int64))


def test_what_dqn_cannot_act_in_is_refused() -> None:
    with pytest.raises(UserError, match="DQN chooses among Discrete ones"):
        environments.create("Pendulum-v1")
    with pytest.raises(UserError, match="wrap the environment so that they are a Box"):
        environments.create("Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3")
    with pytest.raises(UserError, match=r"did you mean .*'CartPole-v1'"):
        environments.create("CartPol-v1")


def test_an_environments_own_settings_are_checked() -> None:
    pool = environments.create("CartPole-v1", count=2, sutton_barto_reward=True)
    pool.begin(0)
    assert pool.step(np.zeros(2, np.int64)).reward.tolist() == [0.0, 0.0]
    with pytest.raises(UserError, match="no setting 'gravitty'"):
        environments.create("CartPole-v1", gravitty=1)


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_each_seed_gives_one_episode_however_many_run_at_once(at_once: int) -> None:
    def policy(observations: np.ndarray) -> np.ndarray:
        return (observations[:, 2] > 0).astype(np.int64)

    make = lambda: gymnasium.make("CartPole-v1")  # noqa: E731
    returns, lengths = run_episodes(make, policy, range(7), at_once=at_once)
    alone = [run_episodes(make, policy, [seed])[0][0] for seed in range(7)]
    assert returns.tolist() == alone == lengths.tolist()
