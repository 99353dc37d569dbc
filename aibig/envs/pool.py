"""Several copies of an environment stepped together, exactly resumable. Knows no model and no replay.

E environments, each of gymnasium's API. An environment that ends is reset at once, so that every step is a
transition, and none crosses an episode's end.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from aibig.errors import UserError
from aibig.seeds import derive_seed
from aibig.settings import PositiveInt


@dataclass
class Step:
    """What a step gave in each of E environments. Only `terminated` ends the future's value; truncated does not."""

    observation: NDArray[np.float32]  # (E, ...) acted on
    action: NDArray[np.int64]  # (E,)
    reward: NDArray[np.float32]  # (E,)
    next_observation: NDArray[np.float32]  # (E, ...) of the same episode, also at its end
    terminated: NDArray[np.bool_]  # (E,)
    truncated: NDArray[np.bool_]  # (E,)
    finished: list[tuple[float, int]]  # (return, length) of the episodes that ended


class EnvPool:
    """`count` copies of an environment, each episode with a seed of its own.

    An environment's state is the seed of its episode and the actions since: replaying them rebuilds it, whatever
    it is made of. make: a function that makes one environment.

    Raises UserError for actions that are not Discrete and observations that are not a Box.
    """

    registered: dict[str, Any] | None = None  # name and settings, where the registry made it

    def __init__(self, make: Callable[[], gymnasium.Env[Any, Any]], *, count: PositiveInt = 1) -> None:
        self.make, self.count = make, count
        self.envs = [make_env(make) for _ in range(count)]
        self.actions, self.observation_shape = check_spaces(self.envs[0])
        self.name = self.envs[0].spec.id if self.envs[0].spec else type(self.envs[0].unwrapped).__name__
        self._seed = 0
        self.restarted: list[int] = []

    def begin(self, seed: int) -> None:
        """Start an episode in every environment; `seed` and the episode's number decide each one's course."""
        self._seed = seed
        self._episodes = [0] * self.count
        self._actions: list[list[int]] = [[] for _ in range(self.count)]
        self._returns = [0.0] * self.count
        self._warn_unless_repeating()
        self._returns = [0.0] * self.count
        self.observation = np.stack([self._reset(index) for index in range(self.count)])

    def step(self, actions: NDArray[np.int64]) -> Step:
        """Act (E,) in every environment. Raises UserError for a reward or observation that is not finite."""
        before, after = self.observation, np.empty_like(self.observation)
        reward = np.empty(self.count, np.float32)
        terminated, truncated = np.zeros(self.count, bool), np.zeros(self.count, bool)
        finished = []
        for index, (env, action) in enumerate(zip(self.envs, actions.tolist(), strict=True)):
            after[index], value, terminated[index], truncated[index], _ = env.step(action)
            reward[index] = value
            self._actions[index].append(action)
            self._returns[index] += float(value)
        following = after
        if terminated.any() or truncated.any():
            following = after.copy()
            for index in np.flatnonzero(terminated | truncated).tolist():
                finished.append((self._returns[index], len(self._actions[index])))
                self._episodes[index] += 1
                self._actions[index], self._returns[index] = [], 0.0
                following[index] = self._reset(index)
        self.observation = following
        if not (np.isfinite(reward).all() and np.isfinite(after).all()):
            index = int(np.flatnonzero(~np.isfinite(reward) | ~np.isfinite(after.reshape(self.count, -1)).all(1))[0])
            raise UserError(
                f"environment {self.name!r} (copy {index}, episode {self._episodes[index]}, step "
                f"{len(self._actions[index])}) gave a reward or observation that is not finite; mend the environment"
            )
        return Step(before, actions, reward, after, terminated, truncated, finished)

    def _reset(self, index: int) -> NDArray[np.float32]:
        seed = derive_seed(self._seed, "episode", index, self._episodes[index]) % 2**31
        observation, _ = self.envs[index].reset(seed=seed)
        return np.asarray(observation, np.float32)

    def state_dict(self) -> dict[str, Any]:
        """Seed, episodes, and actions since their beginning."""
        return {
            "seed": self._seed,
            "episodes": self._episodes,
            "actions": [torch.tensor(one, dtype=torch.int64) for one in self._actions],
            "observation": torch.from_numpy(self.observation.copy()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replay what `state_dict` gave. Where an environment comes out otherwise, warn, and begin an episode.

        `restarted` lists those afterwards: what they did before leads nowhere.
        """
        self.restarted = []
        self._seed, self._episodes = state["seed"], list(state["episodes"])
        self._actions = [one.tolist() for one in state["actions"]]
        self._returns = [0.0] * self.count
        self.observation = state["observation"].numpy().copy()
        for index, actions in enumerate(self._actions):
            observation = self._replay(index, actions)
            if not np.array_equal(observation, self.observation[index]):
                warnings.warn(f"{self._not_repeating()}; copy {index} begins a new episode", stacklevel=2)
                self.restarted.append(index)
                self._episodes[index] += 1
                self._actions[index], self._returns[index] = [], 0.0
                self.observation[index] = self._reset(index)

    def _replay(self, index: int, actions: list[int]) -> NDArray[np.float32]:
        """The observation after `actions` in the present episode of an environment."""
        observation = self._reset(index)
        self._returns[index] = 0.0
        for action in actions:
            raw, reward, *_ = self.envs[index].step(action)
            observation = np.asarray(raw, np.float32)
            self._returns[index] += float(reward)
        return observation

    def _warn_unless_repeating(self) -> None:
        """Say at the start that an environment can't be resumed exactly."""
        if not np.array_equal(self._replay(0, [0]), self._replay(0, [0])):
            warnings.warn(self._not_repeating(), stacklevel=3)

    def _not_repeating(self) -> str:
        return (
            f"environment {self.name!r} gives other observations for the same seed and actions, so a run in it can't "
            "be resumed exactly; make its randomness depend on reset(seed=...)"
        )


def make_env(make: Callable[[], gymnasium.Env[Any, Any]]) -> gymnasium.Env[Any, Any]:
    """One environment. Raises UserError where a package that it needs is missing."""
    try:
        return make()
    except gymnasium.error.DependencyNotInstalled as error:
        raise UserError(f"the environment needs a package that is not installed: {error}") from None
    except (gymnasium.error.Error, TypeError, ImportError) as error:
        raise UserError(f"the environment can't be made: {error}") from None


def check_spaces(env: gymnasium.Env[Any, Any]) -> tuple[int, tuple[int, ...]]:
    """(number of actions, shape of an observation). Raises UserError for what DQN can't act in."""
    actions, observations = env.action_space, env.observation_space
    if not isinstance(actions, gymnasium.spaces.Discrete):
        raise UserError(f"the actions are {actions}; DQN chooses among Discrete ones, so it can't act here")
    if actions.start != 0:
        raise UserError(f"the actions are numbered from {actions.start}; wrap the environment to number them from 0")
    if not isinstance(observations, gymnasium.spaces.Box):
        raise UserError(f"the observations are {observations}; wrap the environment so that they are a Box")
    return int(actions.n), observations.shape
