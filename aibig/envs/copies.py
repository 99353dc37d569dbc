"""Copies of an environment, stepped one after the other, exactly resumable. Knows no model and no replay.

E environments, A actions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from aibig.envs.wrappers import MASK, Env
from aibig.seeds import derive_seed

Array = NDArray[Any]
Mask = NDArray[np.bool_] | None


class Moment(NamedTuple):
    """What E environments give when they are reset or stepped; a reset has reward 0 and ends nothing."""

    observation: Array  # (E, ...)
    reward: NDArray[np.float32]  # (E,)
    terminated: NDArray[np.bool_]  # (E,)
    truncated: NDArray[np.bool_]  # (E,)
    action_mask: Mask  # (E, A)


class Vector(Protocol):
    """E environments side by side."""

    count: int

    def begin(self, seed: int) -> Moment:
        """Start an episode in each; `seed` decides the course of all."""

    def step(self, actions: NDArray[np.int64], ended: NDArray[np.bool_]) -> Moment:
        """Act (E,) in those that have not `ended`, and reset those that have."""

    def repeats(self) -> bool:
        """Whether the same actions after the same beginning give the same; called before `begin`."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> Array:
        """Go on from what `state_dict` gave. Returns the observations (E, ...) that come out."""

    def restart(self, index: int) -> tuple[Array, Mask]:
        """Begin the next episode of one environment, which came out otherwise: its observation (...) and mask (A,)."""

    def close(self) -> None:
        """Let go of windows and processes."""


class Episodes:
    """Seeds of the episodes of E environments, and the actions since they began: from these each can be rebuilt."""

    def __init__(self, count: int) -> None:
        self.seed, self.numbers = 0, [0] * count
        self.actions: list[list[int]] = [[] for _ in range(count)]

    def begin(self, seed: int) -> None:
        """All at their first episode."""
        self.seed, self.numbers = seed, [0] * len(self.numbers)
        self.actions = [[] for _ in self.numbers]

    def seed_of(self, index: int) -> int:
        """That of the present episode of an environment."""
        return derive_seed(self.seed, "episode", index, self.numbers[index]) % 2**31

    def next(self, index: int) -> int:
        """The seed of the episode that an environment now begins."""
        self.numbers[index] += 1
        self.actions[index] = []
        return self.seed_of(index)

    def state_dict(self) -> dict[str, Any]:
        """Seed, numbers and actions."""
        actions = [torch.tensor(one, dtype=torch.int64) for one in self.actions]
        return {"seed": self.seed, "episodes": self.numbers, "actions": actions}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.seed, self.numbers = state["seed"], list(state["episodes"])
        self.actions = [one.tolist() for one in state["actions"]]


class Copies:
    """Environments in this process, each episode with a seed of its own. dtype: of observations."""

    def __init__(self, make: Callable[[], Env], count: int, dtype: np.dtype[Any], first: Env | None = None) -> None:
        self.count, self.dtype = count, dtype
        self.envs = [*([] if first is None else [first]), *(make() for _ in range(count - (first is not None)))]
        self.episodes = Episodes(count)
        self._shape = (count, *(self.envs[0].observation_space.shape or ()))

    def begin(self, seed: int) -> Moment:
        """Start an episode in each."""
        self.episodes.begin(seed)
        begun = [self._reset(index) for index in range(self.count)]
        nothing = np.zeros(self.count, bool)
        masks = None if begun[0][1] is None else np.array([mask for _, mask in begun], bool)
        return Moment(np.stack([one for one, _ in begun]), np.zeros(self.count, np.float32), nothing, nothing, masks)

    def step(self, actions: NDArray[np.int64], ended: NDArray[np.bool_]) -> Moment:
        """Act (E,) in those that have not `ended`, and reset those that have."""
        after, reward = np.empty(self._shape, self.dtype), np.zeros(self.count, np.float32)
        terminated, truncated = np.zeros(self.count, bool), np.zeros(self.count, bool)
        masks: list[Any] = []
        over = ended.tolist() if ended.any() else None
        for index, action in enumerate(actions.tolist()):
            if over is not None and over[index]:
                self.episodes.next(index)
                after[index], mask = self._reset(index)
            else:
                after[index], reward[index], terminated[index], truncated[index], info = self.envs[index].step(action)
                self.episodes.actions[index].append(action)
                mask = info.get(MASK)
            masks.append(mask)
        return Moment(after, reward, terminated, truncated, None if masks[0] is None else np.stack(masks).astype(bool))

    def _reset(self, index: int) -> tuple[Array, Mask]:
        observation, info = self.envs[index].reset(seed=self.episodes.seed_of(index))
        mask = info.get(MASK)
        return np.asarray(observation, self.dtype), None if mask is None else np.asarray(mask, bool)

    def repeats(self) -> bool:
        """Whether a reset and a step with the same seed and action give the same."""
        found = []
        for _ in range(2):
            _, mask = self._reset(0)
            action = 0 if mask is None else int(mask.argmax())
            found.append(np.asarray(self.envs[0].step(action)[0], self.dtype))
        return np.array_equal(found[0], found[1])

    def _replay(self, index: int, actions: list[int]) -> Array:
        """The observation after `actions` in the present episode of an environment."""
        observation, _ = self._reset(index)
        for action in actions:
            observation = np.asarray(self.envs[index].step(action)[0], self.dtype)
        return observation

    def state_dict(self) -> dict[str, Any]:
        """Seeds and actions."""
        return self.episodes.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> Array:
        """Replay what `state_dict` gave."""
        self.episodes.load_state_dict(state)
        return np.stack([self._replay(index, actions) for index, actions in enumerate(self.episodes.actions)])

    def restart(self, index: int) -> tuple[Array, Mask]:
        """Begin the next episode of one environment."""
        self.episodes.next(index)
        return self._reset(index)

    def close(self) -> None:
        """Let go of windows."""
        for env in self.envs:
            env.close()
