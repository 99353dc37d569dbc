"""Environments stepped one after the other in this process. Knows no model and no replay.

E environments, A actions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aibig.envs.vectors import EpisodeHistory, ResumableVectorEnv, VectorStep
from aibig.envs.wrappers import ACTION_MASK, Array, Env, Mask


class SequentialVectorEnv(ResumableVectorEnv):
    """Environments in this process, each episode with a seed of its own.

    Args:
        make: a function that returns one environment.
        num_envs: E.
        dtype: of observations.
        first: an environment that is already made, to be the first.
    """

    def __init__(self, make: Callable[[], Env], num_envs: int, dtype: np.dtype[Any], first: Env | None = None) -> None:
        self.num_envs, self.dtype = num_envs, dtype
        self.envs = [*([] if first is None else [first]), *(make() for _ in range(num_envs - (first is not None)))]
        self.history = EpisodeHistory(num_envs)
        self._shape = (num_envs, *(self.envs[0].observation_space.shape or ()))

    def reset(self, seed: int) -> tuple[Array, Mask]:
        """Start an episode in every environment."""
        self.history.reset(seed)
        observations, masks = zip(*(self._reset(index) for index in range(self.num_envs)), strict=True)
        return np.stack(observations), None if masks[0] is None else np.stack(masks)

    def step(self, actions: NDArray[np.int64], ended: NDArray[np.bool_]) -> VectorStep:
        """Step the environments whose episode goes on, and reset the others."""
        observation, reward = np.empty(self._shape, self.dtype), np.zeros(self.num_envs, np.float32)
        terminated, truncated = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        masks: list[Any] = []
        resets = ended.tolist() if ended.any() else None
        for index, (env, action) in enumerate(zip(self.envs, actions.tolist(), strict=True)):
            if resets is not None and resets[index]:
                observation[index], mask = self.reset_env(index)
            else:
                observation[index], reward[index], terminated[index], truncated[index], info = env.step(action)
                self.history.actions[index].append(action)
                mask = info.get(ACTION_MASK)
            masks.append(mask)
        action_mask = None if masks[0] is None else np.stack(masks).astype(bool)
        return VectorStep(observation, reward, terminated, truncated, action_mask)

    def reset_env(self, index: int) -> tuple[Array, Mask]:
        """Start the next episode of one environment."""
        self.history.next_episode(index)
        return self._reset(index)

    def _reset(self, index: int) -> tuple[Array, Mask]:
        """Start the current episode of an environment."""
        observation, info = self.envs[index].reset(seed=self.history.seed_of(index))
        mask = info.get(ACTION_MASK)
        return np.asarray(observation, self.dtype), None if mask is None else np.asarray(mask, bool)

    def is_deterministic(self) -> bool:
        """Whether a reset and a step with the same seed and action give the same observation."""
        observations = []
        for _ in range(2):
            _, mask = self._reset(0)
            action = 0 if mask is None else int(mask.argmax())
            observations.append(np.asarray(self.envs[0].step(action)[0], self.dtype))
        return np.array_equal(observations[0], observations[1])

    def state_dict(self) -> dict[str, Any]:
        """Seeds and actions."""
        return self.history.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> Array:
        """Replay each environment's current episode."""
        self.history.load_state_dict(state)
        return np.stack([self._replay(index, actions) for index, actions in enumerate(self.history.actions)])

    def _replay(self, index: int, actions: list[int]) -> Array:
        observation, _ = self._reset(index)
        for action in actions:
            observation = np.asarray(self.envs[index].step(action)[0], self.dtype)
        return observation

    def close(self) -> None:
        """Close windows."""
        for env in self.envs:
            env.close()
