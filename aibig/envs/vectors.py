"""gymnasium's vector environments, exactly resumable. Knows no model and no replay.

E environments, A actions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from aibig.envs.copies import Array, Episodes, Mask, Moment
from aibig.envs.episodes import Policy
from aibig.envs.wrappers import MASK

VectorEnv = gymnasium.vector.VectorEnv[Any, Any, Any]


class SeededVector:
    """One that resets some of its environments alone (`reset_mask`), each with a seed: Atari's, and worker processes.

    So each episode has a seed of its own, and each environment can be rebuilt from that and its actions. Where
    episodes end, the vector's own reset comes first and ours after it. dtype: of observations.
    """

    def __init__(self, env: VectorEnv, dtype: np.dtype[Any]) -> None:
        self.env, self.count, self.dtype = env, env.num_envs, dtype
        self.episodes = Episodes(self.count)
        self._nothing = np.zeros(self.count, bool)

    def begin(self, seed: int) -> Moment:
        """Start an episode in each."""
        self.episodes.begin(seed)
        observation, info = self._reset(np.ones(self.count, bool))
        reward = np.zeros(self.count, np.float32)
        return Moment(observation, reward, self._nothing, self._nothing, _mask(info))

    def step(self, actions: NDArray[np.int64], ended: NDArray[np.bool_]) -> Moment:
        """Act (E,) in those that have not `ended`, and reset those that have."""
        observation, reward, terminated, truncated, info = self.env.step(actions)
        over = ended.tolist()
        for index, action in enumerate(actions.tolist()):
            if over[index]:
                self.episodes.next(index)
            else:
                self.episodes.actions[index].append(action)
        masks = _mask(info)
        if any(over):
            observation, info = self._reset(ended)
            reward, terminated, truncated = (np.where(ended, 0, one) for one in (reward, terminated, truncated))
            if masks is not None:
                masks[ended] = np.stack([*info[MASK]])[ended]
        return Moment(
            np.array(observation, self.dtype),  # worker processes write into the same memory again
            np.asarray(reward, np.float32),
            np.asarray(terminated, bool),
            np.asarray(truncated, bool),
            masks,
        )

    def _reset(self, chosen: NDArray[np.bool_]) -> tuple[Array, dict[str, Any]]:
        """Begin the present episodes of those `chosen` (E,); observations and infos of all."""
        every = [self.episodes.seed_of(index) for index in range(self.count)]
        some = np.array([every[index] for index in np.flatnonzero(chosen)])
        seeds: Any = every if isinstance(self.env, gymnasium.vector.AsyncVectorEnv) else some
        options = None if chosen.all() else {"reset_mask": chosen}
        observation, info = self.env.reset(seed=seeds, options=options)
        return np.array(observation, self.dtype), info

    def repeats(self) -> bool:
        """Whether a reset and a step with the same seeds and actions give the same."""
        found = []
        for _ in range(2):
            _, info = self._reset(np.ones(self.count, bool))
            found.append(np.array(self.env.step(self._allowed(info))[0]))
        return np.array_equal(found[0], found[1])

    def state_dict(self) -> dict[str, Any]:
        """Seeds and actions."""
        return self.episodes.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> Array:
        """Replay what `state_dict` gave: all end together, so that the longest episode begins first."""
        self.episodes.load_state_dict(state)
        lengths = np.array([len(one) for one in self.episodes.actions])
        longest = int(lengths.max())
        observation, info = self._reset(np.ones(self.count, bool))
        for time in range(longest):
            if time and (begins := lengths == longest - time).any():
                self._reset(begins)
            actions = self._allowed(info)  # those of environments that wait for their beginning
            for index, played in enumerate(self.episodes.actions):
                begin = longest - len(played)
                if time >= begin:
                    actions[index] = played[time - begin]
            observation, *_, info = self.env.step(actions)
        if longest and (none := lengths == 0).any():
            observation, _ = self._reset(none)
        return np.array(observation, self.dtype)

    def _allowed(self, info: dict[str, Any]) -> NDArray[np.int64]:
        """Actions (E,) that are allowed, the first of each."""
        mask = _mask(info)
        return np.zeros(self.count, np.int64) if mask is None else mask.argmax(1)

    def restart(self, index: int) -> tuple[Array, Mask]:
        """Begin the next episode of one environment."""
        self.episodes.next(index)
        observation, info = self._reset(np.arange(self.count) == index)
        return observation[index], None if MASK not in info else np.asarray(info[MASK][index], bool)

    def close(self) -> None:
        """End worker processes."""
        self.env.close()


class SnapshotVector:
    """An environment's own vector entry point, whose arrays, numbers and generator are its whole state.

    It resets by itself, on the step after an end (gymnasium's default), so one seed decides all. dtype: of
    observations. make: makes others, so many at once.
    """

    def __init__(self, env: VectorEnv, dtype: np.dtype[Any], make: Callable[[int], VectorEnv | None]) -> None:
        self.env, self.count, self.dtype, self._make = env, env.num_envs, dtype, make
        self._nothing = np.zeros(self.count, bool)

    def run_episodes(self, policy: Policy, seed: int, count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The first episodes of `count` other environments: returns and lengths in env steps, (count,) each."""
        env = self._make(count)
        assert env is not None
        returns, lengths, playing = np.zeros(count), np.zeros(count, np.int64), np.ones(count, bool)
        observation, info = env.reset(seed=seed % 2**31)
        while playing.any():
            actions = policy(np.asarray(observation, self.dtype), _mask(info))
            observation, reward, terminated, truncated, info = env.step(actions)
            returns += playing * reward
            lengths += playing
            playing &= ~(terminated | truncated)
        env.close()
        return returns, lengths

    def begin(self, seed: int) -> Moment:
        """Start an episode in each."""
        observation, info = self.env.reset(seed=seed % 2**31)
        reward = np.zeros(self.count, np.float32)
        return Moment(np.array(observation, self.dtype), reward, self._nothing, self._nothing, _mask(info))

    def step(self, actions: NDArray[np.int64], ended: NDArray[np.bool_]) -> Moment:
        """Act (E,); it knows itself which have `ended`."""
        observation, reward, terminated, truncated, info = self.env.step(actions)
        return Moment(np.array(observation, self.dtype), reward, terminated, truncated, _mask(info))

    def repeats(self) -> bool:
        """Whether it goes on alike from its state, over the ends of episodes."""
        self.env.reset(seed=0)
        generator = np.random.default_rng(0)
        actions = generator.integers(self.env.single_action_space.n, size=(120, self.count))  # type: ignore[attr-defined]
        for one in actions[:40]:
            self.env.step(one)
        state, found = self.state_dict(), []
        for _ in range(2):
            self.load_state_dict(state)
            found.append(np.stack([np.asarray(self.env.step(one)[0]) for one in actions[40:]]))
        return np.array_equal(found[0], found[1])

    def state_dict(self) -> dict[str, Any]:
        """Its attributes that are arrays or plain values, and its generator's state."""
        inner = self.env.unwrapped
        state: dict[str, Any] = {}
        for name, value in vars(inner).items():
            if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
                state[name] = torch.from_numpy(value.copy())
            elif isinstance(value, bool | int | float | str):
                state[name] = value
        return {"state": state, "generator": inner.np_random.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> Array:
        """Go on from what `state_dict` gave; the observations are then the pool's."""
        inner = self.env.unwrapped
        for name, value in state["state"].items():
            setattr(inner, name, value.numpy().copy() if isinstance(value, torch.Tensor) else value)
        inner.np_random.bit_generator.state = state["generator"]
        return np.empty(0)

    def restart(self, index: int) -> tuple[Array, Mask]:
        """It is never needed: what does not repeat is not taken."""
        raise AssertionError(index)

    def close(self) -> None:
        """Let go of windows."""
        self.env.close()


def _mask(info: dict[str, Any]) -> Mask:
    """(E, A) of the actions that are allowed."""
    mask = info.get(MASK)
    return None if mask is None else np.stack([*mask]).astype(bool)
