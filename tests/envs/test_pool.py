"""Environments in a pool: no transition crosses an episode's end, and any of them is rebuilt exactly."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest

from aibig.config.registry import environments
from aibig.envs.copies import Copies
from aibig.envs.episodes import run_episodes
from aibig.envs.pool import EnvPool
from aibig.envs.vectors import SnapshotVector
from aibig.errors import UserError


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


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_no_transition_crosses_an_episodes_end(vectorization: Any) -> None:
    pool = EnvPool(Counting, count=2, vectorization=vectorization)
    with pytest.warns(UserWarning, match="can't be resumed exactly"):
        pool.begin(0)
    first = pool.observation[:, 0].astype(int)  # trying what it is like took some
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


def cart_poles() -> gymnasium.Env[Any, Any]:
    """Without what would let the pool find its vector entry point."""
    return gymnasium.make("CartPole-v1")


CART_POLE = partial(gymnasium.make, "CartPole-v1", disable_env_checker=True)
POOLS: list[tuple[Any, str]] = [
    (Random, "sync"),
    (cart_poles, "sync"),
    (lambda: gymnasium.make("Acrobot-v1"), "sync"),
    (cart_poles, "async"),
    (CART_POLE, "vector_entry_point"),
]


@pytest.mark.parametrize(("make", "vectorization"), POOLS)
@pytest.mark.parametrize("stop", [40, 41, 42, 43])
def test_a_pool_is_rebuilt_in_the_middle_of_an_episode(make: Callable[[], Any], vectorization: Any, stop: int) -> None:
    pool, other = (EnvPool(make, count=3, vectorization=vectorization) for _ in range(2))
    pool.begin(5)
    other.begin(6)
    generator = np.random.default_rng(0)
    for _ in range(stop):
        pool.step(generator.integers(pool.actions, size=3))
    other.load_state_dict(pool.state_dict())
    assert other.restarted == []
    for _ in range(40):
        actions = generator.integers(pool.actions, size=3)
        ours, theirs = pool.step(actions), other.step(actions)
        assert np.array_equal(ours.next_observation, theirs.next_observation)
        assert np.array_equal(ours.is_transition, theirs.is_transition)
        assert np.array_equal(ours.reward, theirs.reward) and ours.finished == theirs.finished
    pool.close()
    other.close()


def test_a_vector_entry_point_gives_what_single_environments_give() -> None:
    """Of CartPole, whose vector resets by itself: dynamics, ends by either reason, and the step after an end."""
    pool = EnvPool(partial(CART_POLE, max_episode_steps=12), count=4)
    assert isinstance(pool._vector, SnapshotVector)
    pool.begin(0)
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
            after, reward, terminated, *_ = single.step(int(actions[copy]))
            np.testing.assert_allclose(after, step.next_observation[copy], rtol=1e-4, atol=1e-5)
            assert reward == step.reward[copy] and step.truncated[copy] == (length[copy] == 12)
            assert terminated == step.terminated[copy]
        ends += [length for _, length in step.finished]
    assert min(ends) < max(ends) == 12


def test_which_vectorisation_is_taken() -> None:
    assert isinstance(EnvPool(CART_POLE)._vector, Copies), "a single one is faster by itself"
    assert isinstance(EnvPool(CART_POLE, count=2, vectorization="sync")._vector, Copies)
    assert isinstance(EnvPool(cart_poles, count=2)._vector, Copies)
    with pytest.raises(UserError, match="has no vector entry point"):
        EnvPool(partial(gymnasium.make, "Acrobot-v1"), count=2, vectorization="vector_entry_point")


class Masked(Counting):
    """Allows one action, which the step tells: in a Dict observation."""

    observation_space = gymnasium.spaces.Dict(  # type: ignore[assignment]
        {"action_mask": gymnasium.spaces.MultiBinary(2), "seen": gymnasium.spaces.Box(-1, 9, (1,), np.float32)}
    )

    def seen(self) -> Any:
        mask = np.array([self.count % 2 == 0, self.count % 2 == 1], np.int8)
        return {"action_mask": mask, "seen": np.array([self.count], np.float32)}

    def reset(self, **settings: Any) -> Any:
        super().reset(**settings)
        return self.seen(), {}

    def step(self, action: Any) -> Any:
        assert self.seen()["action_mask"][action]
        _, *rest = super().step(action)
        return self.seen(), *rest


class MaskedInInfo(Masked):
    """The same, in `info`."""

    observation_space = gymnasium.spaces.Box(-1, 9, (1,), np.float32)  # type: ignore[assignment]

    def reset(self, **settings: Any) -> Any:
        seen, _ = super().reset(**settings)
        return seen["seen"], {"action_mask": seen["action_mask"]}

    def step(self, action: Any) -> Any:
        seen, reward, terminated, truncated, _ = super().step(action)
        return seen["seen"], reward, terminated, truncated, {"action_mask": seen["action_mask"]}


@pytest.mark.parametrize("make", [Masked, MaskedInInfo])
@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_masks_stand_beside_the_observations_they_belong_to(make: Any, vectorization: Any) -> None:
    pool = EnvPool(make, count=2, vectorization=vectorization)
    assert pool.has_action_masks and pool.observation_shape == (1,)
    pool.begin(0)
    for _ in range(9):
        step = pool.step(pool.observation[:, 0].astype(np.int64) % 2)
        for observation, mask in ((step.observation, step.action_mask), (step.next_observation, step.next_action_mask)):
            assert mask is not None and np.array_equal(mask.argmax(1), observation[:, 0] % 2)
    pool.close()
    returns, _ = pool.run_episodes(lambda seen, mask: mask.argmax(1), range(3))
    assert returns.tolist() == [6.0] * 3


class Strict(MaskedInInfo):
    """Begins where the first action is forbidden, and allows none where an episode has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.first = 1

    def seen(self) -> Any:
        mask = np.array([self.count % 2 == self.first, self.count % 2 != self.first], np.int8)
        return {"action_mask": mask * (self.count < 3), "seen": np.array([self.count], np.float32)}


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_only_what_is_allowed_is_played_also_when_rebuilding(vectorization: Any) -> None:
    pool, other = (EnvPool(Strict, count=2, vectorization=vectorization) for _ in range(2))
    pool.begin(0)
    other.begin(1)
    for _ in range(6):
        assert pool.action_mask is not None
        pool.step(pool.action_mask.argmax(1))
    other.load_state_dict(pool.state_dict())
    assert np.array_equal(other.observation, pool.observation) and not other.restarted
    pool.close()
    other.close()


class Capricious(Strict):
    """Each of its episodes begins with another mask, whatever the seed."""

    def reset(self, **settings: Any) -> Any:
        self.first = 1 - self.first
        return super().reset(**settings)

    def step(self, action: Any) -> Any:
        _, reward, terminated, truncated, _ = Counting.step(self, action)
        seen = self.seen()
        return np.random.normal(size=1), reward, terminated, truncated, {"action_mask": seen["action_mask"]}


def test_an_environment_that_begins_anew_brings_its_mask() -> None:
    pool, other = EnvPool(Capricious), EnvPool(Capricious)
    with pytest.warns(UserWarning, match="'Capricious' gives other observations for the same seed"):
        pool.begin(0)
    assert pool.action_mask is not None
    pool.step(pool.action_mask.argmax(1))
    other.action_mask = None
    with pytest.warns(UserWarning, match="begins a new episode"):
        other.load_state_dict(pool.state_dict())
    allowed = np.array(other._vector.envs[0].unwrapped.seen()["action_mask"], bool)  # type: ignore[attr-defined]
    assert np.array_equal(other.action_mask[0], allowed)  # type: ignore[index]


class MaskedAtFirst(MaskedInInfo):
    """Forgets its mask after the reset."""

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


class Places(Counting):
    """Discrete and composed observations, which are flattened."""

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
    """Pictures of bytes."""

    observation_space = gymnasium.spaces.Box(0, 255, (4, 5), np.uint8)

    def reset(self, **settings: Any) -> Any:
        super().reset(**settings)
        return np.full((4, 5), self.count, np.uint8), {}

    def step(self, action: Any) -> Any:
        _, *rest = super().step(action)
        return np.full((4, 5), self.count, np.uint8), *rest


def test_observations_are_flattened_or_stacked_and_bytes_stay_bytes() -> None:
    pool = EnvPool(Places)
    pool.begin(0)
    assert pool.step(np.zeros(1, np.int64)).next_observation.tolist() == [[1, 1, 0, 1, 0]]
    assert EnvPool(Scalar).observation_shape == (1,)
    screen = EnvPool(Screen, frame_stack=3, count=2)
    screen.begin(0)
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
        (TakesFour, "'TakesFour': step gives tuple; gymnasium's API wants .observation, reward, terminated"),
        (Misshapen, r"'Misshapen': reset gives an observation of shape \(3,\), its space says \(2,\)"),
        (dict, "the environment is a dict, not a gymnasium.Env"),
        (MaskedAtFirst, "info of reset has 'action_mask', that of step has not; give it in both"),
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


def test_an_environment_that_does_not_repeat_is_named() -> None:
    pool, other = EnvPool(Unseeded), EnvPool(Unseeded)
    complaint = "'Unseeded' gives other observations for the same seed"
    with pytest.warns(UserWarning, match=complaint):
        pool.begin(0)
    pool.step(np.zeros(1, np.int64))
    with pytest.warns(UserWarning, match=complaint + ".*begins a new episode"):
        other.load_state_dict(pool.state_dict())
    assert other.restarted == [0]
    assert other.state_dict()["vector"]["episodes"] == [1] and other.state_dict()["vector"]["actions"][0].tolist() == []


def test_a_reward_that_is_no_number_is_named() -> None:
    pool = EnvPool(Broken)
    pool.begin(0)
    with pytest.raises(UserError, match=r"'Broken' \(copy 0, step 1 of its episode\)"):
        pool.step(np.zeros(1, np.int64))


def test_what_dqn_cannot_act_in_is_refused() -> None:
    with pytest.raises(UserError, match="DQN chooses among Discrete ones"):
        environments.create("Pendulum-v1")
    with pytest.raises(UserError, match=r"did you mean .*'CartPole-v1'"):
        environments.create("CartPol-v1")


def test_an_environments_own_settings_are_checked() -> None:
    pool = environments.create("CartPole-v1", count=2, sutton_barto_reward=True)
    pool.begin(0)
    assert pool.step(np.zeros(2, np.int64)).reward.tolist() == [0.0, 0.0]
    with pytest.raises(UserError, match="no setting 'gravitty'"):
        environments.create("CartPole-v1", gravitty=1)
    with pytest.raises(
        UserError, match=r"vectorization .* must be one of 'auto', .*, not 'asinc'; did you mean 'async'"
    ):
        environments.create("CartPole-v1", vectorization="asinc")


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_each_seed_gives_one_episode_however_many_run_at_once(at_once: int) -> None:
    def policy(observations: np.ndarray, mask: Any) -> np.ndarray:
        return (observations[:, 2] > 0).astype(np.int64)

    make = lambda: gymnasium.make("CartPole-v1")  # noqa: E731
    returns, lengths = run_episodes(make, policy, range(7), at_once=at_once)
    alone = [run_episodes(make, policy, [seed])[0][0] for seed in range(7)]
    assert returns.tolist() == alone == lengths.tolist()


def test_a_vector_entry_point_plays_whole_episodes_alike() -> None:
    pool = EnvPool(CART_POLE, count=2)
    policy = lambda seen, _: (seen[:, 2] > 0).astype(np.int64)  # noqa: E731
    returns, lengths = pool.run_episodes(policy, range(200))
    again, _ = pool.run_episodes(policy, range(200))
    alone, _ = pool.run_episodes(policy, range(200), at_once=64)
    others, _ = pool.run_episodes(policy, range(200, 400))
    assert returns.tolist() == again.tolist() == lengths.tolist() != others.tolist()
    assert returns.mean() == pytest.approx(alone.mean(), abs=4 * alone.std() / 200**0.5)
