"""Environments in a pool: no transition crosses an episode's end, and each is resumed exactly."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest

from aibig.config.registry import environments
from aibig.envs.episodes import SyncEpisodes, run_episodes
from aibig.envs.gymnasium_vectors import StateRestoredVectorEnv
from aibig.envs.pool import EnvPool
from aibig.envs.sync_vector import SequentialVectorEnv
from aibig.errors import UserError


class Counting(gymnasium.Env[Any, Any]):
    """Counts its steps: observation (episode, step). Ends after 3 steps, in every second episode by truncation.

    Episodes are numbered over resets, so its observations do not depend on the seed alone.
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
        ended, is_even = self.count == 3, self.episode % 2 == 0
        observation = np.array([self.episode, float(self.count)])
        return observation, float(self.count), ended and is_even, ended and not is_even, {}


class Random(Counting):
    """Depends on its seed."""

    def step(self, action: Any) -> Any:
        _, reward, *rest = super().step(action)
        return self.np_random.normal(size=2) * (1 + action), reward, *rest

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return self.np_random.normal(size=2), {}


class Unseeded(Counting):
    """Returns other observations each time."""

    def step(self, action: Any) -> Any:
        observation, *rest = super().step(action)
        return observation + np.random.normal(size=2), *rest


class Broken(Counting):
    """Returns the reward NaN."""

    def step(self, action: Any) -> Any:
        _, _, *rest = super().step(action)
        return np.zeros(2), float("nan"), *rest


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_no_transition_crosses_an_episodes_end(vectorization: Any) -> None:
    pool = EnvPool(Counting, count=2, vectorization=vectorization)
    with pytest.warns(UserWarning, match="can't be resumed exactly"):
        pool.reset(0)
    first = pool.observation[:, 0].astype(int)  # checking the environment took some
    resets = 1 if vectorization == "sync" else 2  # a vector environment's own, then ours
    steps = [pool.step(np.zeros(2, np.int64)) for _ in range(12)]
    pool.close()
    for number, step in enumerate(steps):
        count = number % 4
        for copy in range(2):
            episode = first[copy] + number // 4 * resets
            assert step.observation[copy].tolist() == [episode, count]
            if count == 3:  # the step after the end
                assert not step.is_transition[copy] and step.next_observation[copy].tolist() == [episode + resets, 0]
                assert step.reward[copy] == 0 and not step.terminated[copy] and not step.truncated[copy]
                continue
            assert step.is_transition[copy] and step.next_observation[copy].tolist() == [episode, count + 1]
            assert step.reward[copy] == count + 1
            assert step.terminated[copy] == (count == 2 and episode % 2 == 0)
            assert step.truncated[copy] == (count == 2 and episode % 2 == 1)
        assert step.finished == ([(6.0, 3)] * 2 if count == 2 else [])


def make_cart_pole() -> gymnasium.Env[Any, Any]:
    """A function in which the pool finds no vector entry point."""
    return gymnasium.make("CartPole-v1")


CART_POLE = partial(gymnasium.make, "CartPole-v1", disable_env_checker=True)
POOLS: list[tuple[Any, str]] = [
    (Random, "sync"),
    (make_cart_pole, "sync"),
    (lambda: gymnasium.make("Acrobot-v1"), "sync"),
    (make_cart_pole, "async"),
    (CART_POLE, "vector_entry_point"),
]


@pytest.mark.parametrize(("make", "vectorization"), POOLS)
@pytest.mark.parametrize("stop", [40, 41, 42, 43])
def test_a_pool_resumes_in_the_middle_of_an_episode(make: Callable[[], Any], vectorization: Any, stop: int) -> None:
    pool, other = (EnvPool(make, count=3, vectorization=vectorization) for _ in range(2))
    pool.reset(5)
    other.reset(6)
    generator = np.random.default_rng(0)
    for _ in range(stop):
        pool.step(generator.integers(pool.actions, size=3))
    other.load_state_dict(pool.state_dict())
    assert other.restarted == []
    for _ in range(40):
        actions = generator.integers(pool.actions, size=3)
        step, resumed = pool.step(actions), other.step(actions)
        assert np.array_equal(step.next_observation, resumed.next_observation)
        assert np.array_equal(step.is_transition, resumed.is_transition)
        assert np.array_equal(step.reward, resumed.reward) and step.finished == resumed.finished
    pool.close()
    other.close()


def test_a_vector_entry_point_returns_what_single_environments_return() -> None:
    """Of CartPole, whose vector resets by itself: dynamics, ends by either reason, and the step after an end."""
    pool = EnvPool(partial(CART_POLE, max_episode_steps=12), count=4)
    assert isinstance(pool._vector, StateRestoredVectorEnv)
    pool.reset(0)
    single, ends = gymnasium.make("CartPole-v1").unwrapped, []
    single.reset(seed=0)
    generator, length = np.random.default_rng(0), np.zeros(4)
    for _ in range(100):
        actions = generator.integers(2, size=4)
        step = pool.step(actions)
        for copy in range(4):
            if not step.is_transition[copy]:
                length[copy] = 0
                assert np.abs(step.next_observation[copy]).max() <= 0.05 and step.reward[copy] == 0
                continue
            length[copy] += 1
            single.state, single.steps_beyond_terminated = step.observation[copy].astype(np.float64), None
            observation, reward, terminated, *_ = single.step(int(actions[copy]))
            np.testing.assert_allclose(observation, step.next_observation[copy], rtol=1e-4, atol=1e-5)
            assert reward == step.reward[copy] and step.truncated[copy] == (length[copy] == 12)
            assert terminated == step.terminated[copy]
        ends += [length for _, length in step.finished]
    assert min(ends) < max(ends) == 12


def test_which_vectorization_is_taken() -> None:
    assert isinstance(EnvPool(CART_POLE)._vector, SequentialVectorEnv), "a single one is faster by itself"
    assert isinstance(EnvPool(CART_POLE, count=2, vectorization="sync")._vector, SequentialVectorEnv)
    assert isinstance(EnvPool(make_cart_pole, count=2)._vector, SequentialVectorEnv)
    with pytest.raises(UserError, match="has no vector entry point"):
        EnvPool(partial(gymnasium.make, "Acrobot-v1"), count=2, vectorization="vector_entry_point")


class Masked(Counting):
    """Allows one action, which depends on the step; the mask is in a Dict observation."""

    observation_space = gymnasium.spaces.Dict(  # type: ignore[assignment]
        {"action_mask": gymnasium.spaces.MultiBinary(2), "count": gymnasium.spaces.Box(-1, 9, (1,), np.float32)}
    )

    def observe(self) -> Any:
        mask = np.array([self.count % 2 == 0, self.count % 2 == 1], np.int8)
        return {"action_mask": mask, "count": np.array([self.count], np.float32)}

    def reset(self, **settings: Any) -> Any:
        super().reset(**settings)
        return self.observe(), {}

    def step(self, action: Any) -> Any:
        assert self.observe()["action_mask"][action]
        _, *rest = super().step(action)
        return self.observe(), *rest


class MaskedInInfo(Masked):
    """The same, in `info`."""

    observation_space = gymnasium.spaces.Box(-1, 9, (1,), np.float32)  # type: ignore[assignment]

    def reset(self, **settings: Any) -> Any:
        observation, _ = super().reset(**settings)
        return observation["count"], {"action_mask": observation["action_mask"]}

    def step(self, action: Any) -> Any:
        observation, *rest, _ = super().step(action)
        return observation["count"], *rest, {"action_mask": observation["action_mask"]}


@pytest.mark.parametrize("make", [Masked, MaskedInInfo])
@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_a_mask_belongs_to_its_observation(make: Any, vectorization: Any) -> None:
    pool = EnvPool(make, count=2, vectorization=vectorization)
    assert pool.has_action_masks and pool.observation_shape == (1,)
    pool.reset(0)
    for _ in range(9):
        step = pool.step(pool.observation[:, 0].astype(np.int64) % 2)
        for observation, mask in ((step.observation, step.action_mask), (step.next_observation, step.next_action_mask)):
            assert mask is not None and np.array_equal(mask.argmax(1), observation[:, 0] % 2)
    pool.close()
    returns, _ = pool.run_episodes(lambda observation, mask: mask.argmax(1), range(3))
    assert returns.tolist() == [6.0] * 3


class Strict(MaskedInInfo):
    """Starts where the first action is not allowed, and allows none where an episode has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.first = 1

    def observe(self) -> Any:
        mask = np.array([self.count % 2 == self.first, self.count % 2 != self.first], np.int8)
        return {"action_mask": mask * (self.count < 3), "count": np.array([self.count], np.float32)}


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_only_allowed_actions_are_taken_also_when_resuming(vectorization: Any) -> None:
    pool, other = (EnvPool(Strict, count=2, vectorization=vectorization) for _ in range(2))
    pool.reset(0)
    other.reset(1)
    for _ in range(6):
        assert pool.action_mask is not None
        pool.step(pool.action_mask.argmax(1))
    other.load_state_dict(pool.state_dict())
    assert np.array_equal(other.observation, pool.observation) and not other.restarted
    pool.close()
    other.close()


class Capricious(Strict):
    """Each of its episodes starts with another mask, whatever the seed."""

    def reset(self, **settings: Any) -> Any:
        self.first = 1 - self.first
        return super().reset(**settings)

    def step(self, action: Any) -> Any:
        _, reward, terminated, truncated, _ = Counting.step(self, action)
        info = {"action_mask": self.observe()["action_mask"]}
        return np.random.normal(size=1), reward, terminated, truncated, info


def test_an_environment_that_is_reset_at_resume_brings_its_mask() -> None:
    pool, other = EnvPool(Capricious), EnvPool(Capricious)
    with pytest.warns(UserWarning, match="'Capricious' returns other observations for the same seed"):
        pool.reset(0)
    assert pool.action_mask is not None
    pool.step(pool.action_mask.argmax(1))
    other.action_mask = None
    with pytest.warns(UserWarning, match="starts a new episode"):
        other.load_state_dict(pool.state_dict())
    allowed = np.array(other._vector.envs[0].unwrapped.observe()["action_mask"], bool)  # type: ignore[attr-defined]
    assert np.array_equal(other.action_mask[0], allowed)  # type: ignore[index]


class MaskedAtFirst(MaskedInInfo):
    """Has no mask after the reset."""

    def step(self, action: Any) -> Any:
        return *super().step(action)[:4], {}


class Scalar(Counting):
    """One number without a shape."""

    observation_space = gymnasium.spaces.Box(-1, 9, (), np.float32)

    def reset(self, **settings: Any) -> Any:
        super().reset(**settings)
        return np.float32(self.count), {}

    def step(self, action: Any) -> Any:
        _, *rest = super().step(action)
        return np.float32(self.count), *rest


class Rooms(Counting):
    """Discrete and Dict observations, which are flattened."""

    observation_space = gymnasium.spaces.Dict(  # type: ignore[assignment]
        {"room": gymnasium.spaces.Discrete(3), "clock": gymnasium.spaces.Box(0, 9, (2,), np.float32)}
    )

    def reset(self, **settings: Any) -> Any:
        super().reset(**settings)
        return {"room": self.count % 3, "clock": np.full(2, self.count, np.float32)}, {}

    def step(self, action: Any) -> Any:
        _, *rest = super().step(action)
        return {"room": self.count % 3, "clock": np.full(2, self.count, np.float32)}, *rest


class Screen(Counting):
    """Images of bytes."""

    observation_space = gymnasium.spaces.Box(0, 255, (4, 5), np.uint8)

    def reset(self, **settings: Any) -> Any:
        super().reset(**settings)
        return np.full((4, 5), self.count, np.uint8), {}

    def step(self, action: Any) -> Any:
        _, *rest = super().step(action)
        return np.full((4, 5), self.count, np.uint8), *rest


def test_observations_are_flattened_or_stacked_and_bytes_stay_bytes() -> None:
    pool = EnvPool(Rooms)
    pool.reset(0)
    assert pool.step(np.zeros(1, np.int64)).next_observation.tolist() == [[1, 1, 0, 1, 0]]
    assert EnvPool(Scalar).observation_shape == (1,)
    screen = EnvPool(Screen, frame_stack=3, count=2)
    screen.reset(0)
    assert screen.observation_shape == (3, 4, 5) and screen.observation_dtype == np.uint8
    step = screen.step(np.zeros(2, np.int64))
    assert step.next_observation.dtype == np.uint8 and step.next_observation[1, :, 0, 0].tolist() == [0, 0, 1]


class TakesFour(Counting):
    """An old API's step."""

    def step(self, action: Any) -> Any:
        return super().step(action)[:4]


class Misshapen(Counting):
    """Observations of another shape than its space says."""

    def reset(self, **settings: Any) -> Any:
        return np.zeros(3), {}


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (TakesFour, "'TakesFour': step returns tuple; gymnasium's API wants .observation, reward, terminated"),
        (Misshapen, r"'Misshapen': reset returns an observation of shape \(3,\), its space says \(2,\)"),
        (dict, "the environment is a dict, not a gymnasium.Env"),
        (MaskedAtFirst, "info of reset has 'action_mask', that of step has not; return it in both"),
        (
            partial(gymnasium.make, "FrozenLake-v1", map_name="9x9"),
            r"can't be made with these settings \(KeyError: '9x9'",
        ),
        (partial(gymnasium.make, "CartPole-v1", render_mode="colour"), "render_mode must be one of human, rgb_array"),
    ],
)
def test_what_does_not_follow_the_api_is_named(make: Any, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        EnvPool(make)


def test_an_environment_that_is_not_deterministic_is_named() -> None:
    pool, other = EnvPool(Unseeded), EnvPool(Unseeded)
    complaint = "'Unseeded' returns other observations for the same seed"
    with pytest.warns(UserWarning, match=complaint):
        pool.reset(0)
    pool.step(np.zeros(1, np.int64))
    with pytest.warns(UserWarning, match=complaint + ".*starts a new episode"):
        other.load_state_dict(pool.state_dict())
    assert other.restarted == [0]
    assert other.state_dict()["vector"]["episodes"] == [1] and other.state_dict()["vector"]["actions"][0].tolist() == []


def test_a_reward_that_is_not_finite_is_named() -> None:
    pool = EnvPool(Broken)
    pool.reset(0)
    with pytest.raises(UserError, match=r"'Broken' \(copy 0, step 1 of its episode\)"):
        pool.step(np.zeros(1, np.int64))


def test_what_dqn_cannot_act_in_is_refused() -> None:
    with pytest.raises(UserError, match="DQN needs a Discrete one"):
        environments.create("Pendulum-v1")
    with pytest.raises(UserError, match=r"did you mean .*'CartPole-v1'"):
        environments.create("CartPol-v1")


def test_an_environments_own_settings_are_checked() -> None:
    pool = environments.create("CartPole-v1", count=2, sutton_barto_reward=True)
    pool.reset(0)
    assert pool.step(np.zeros(2, np.int64)).reward.tolist() == [0.0, 0.0]
    with pytest.raises(UserError, match="no setting 'gravitty'"):
        environments.create("CartPole-v1", gravitty=1)
    with pytest.raises(
        UserError, match=r"vectorization .* must be one of 'auto', .*, not 'asinc'; did you mean 'async'"
    ):
        environments.create("CartPole-v1", vectorization="asinc")


@pytest.mark.parametrize("num_envs", [1, 2, 5])
def test_each_seed_gives_one_episode_however_many_run_at_once(num_envs: int) -> None:
    def policy(observations: np.ndarray, mask: Any) -> np.ndarray:
        return (observations[:, 2] > 0).astype(np.int64)

    def play(seeds: Any, num_envs: int) -> Any:
        return run_episodes(SyncEpisodes(make_cart_pole, num_envs, np.dtype(np.float32)), policy, seeds)

    returns, lengths = play(range(7), num_envs)
    alone = [play([seed], 1)[0][0] for seed in range(7)]
    assert returns.tolist() == alone == lengths.tolist()


def test_a_vector_entry_point_plays_whole_episodes_alike() -> None:
    pool = EnvPool(CART_POLE, count=2)
    policy = lambda observation, _: (observation[:, 2] > 0).astype(np.int64)  # noqa: E731
    returns, lengths = pool.run_episodes(policy, range(200))
    again, _ = pool.run_episodes(policy, range(200))
    alone, _ = pool.run_episodes(policy, range(200), num_envs=64)
    others, _ = pool.run_episodes(policy, range(200, 400))
    assert returns.tolist() == again.tolist() == lengths.tolist() != others.tolist()
    assert returns.mean() == pytest.approx(alone.mean(), abs=4 * alone.std() / 200**0.5)
