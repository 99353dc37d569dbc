"""gymnasium's vector environments, exactly resumable. Knows no model and no replay.

E environments, A actions.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from aibig.envs.vectors import EpisodeHistory, ResumableVectorEnv, VectorStep
from aibig.envs.wrappers import ACTION_MASK, Array, Mask

VectorEnv = gymnasium.vector.VectorEnv[Any, Any, Any]


class ReplayRestoredVectorEnv(ResumableVectorEnv):
    """A vector environment that can reset some of its environments alone (`reset_mask`): Atari's, worker processes.

    Each episode has a seed of its own, and each environment is rebuilt from that and its actions. Where an episode
    has ended, the vector environment resets by itself, and this class resets it again with a seed of its own.

    Args:
        env: the vector environment.
        dtype: of observations.
    """

    def __init__(self, env: VectorEnv, dtype: np.dtype[Any]) -> None:
        self.env, self.num_envs, self.dtype = env, env.num_envs, dtype
        self.history = EpisodeHistory(self.num_envs)

    def reset(self, seed: int) -> tuple[Array, Mask]:
        """Start an episode in every environment."""
        self.history.reset(seed)
        observation, info = self._reset(np.ones(self.num_envs, bool))
        return observation, action_masks(info)

    def step(self, actions: NDArray[np.int64], ended: NDArray[np.bool_]) -> VectorStep:
        """Step the environments whose episode goes on, and reset the others."""
        observation, reward, terminated, truncated, info = self.env.step(actions)
        for index, (action, resets) in enumerate(zip(actions.tolist(), ended.tolist(), strict=True)):
            if resets:
                self.history.next_episode(index)
            else:
                self.history.actions[index].append(action)
        masks = action_masks(info)
        if ended.any():
            observation, info = self._reset(ended)
            reward, terminated, truncated = (np.where(ended, 0, values) for values in (reward, terminated, truncated))
            if masks is not None:
                masks[ended] = np.stack([*info[ACTION_MASK]])[ended]
        return VectorStep(
            np.array(observation, self.dtype),  # worker processes write into the same memory again
            np.asarray(reward, np.float32),
            np.asarray(terminated, bool),
            np.asarray(truncated, bool),
            masks,
        )

    def reset_env(self, index: int) -> tuple[Array, Mask]:
        """Start the next episode of one environment."""
        self.history.next_episode(index)
        observation, info = self._reset(np.arange(self.num_envs) == index)
        return observation[index], None if ACTION_MASK not in info else np.asarray(info[ACTION_MASK][index], bool)

    def _reset(self, reset_mask: NDArray[np.bool_]) -> tuple[Array, dict[str, Any]]:
        """Start the current episodes of some environments (E,). Observations and infos of all."""
        seeds = [self.history.seed_of(index) for index in range(self.num_envs)]
        seed: Any = seeds if isinstance(self.env, gymnasium.vector.AsyncVectorEnv) else np.array(seeds)[reset_mask]
        options = None if reset_mask.all() else {"reset_mask": reset_mask}
        observation, info = self.env.reset(seed=seed, options=options)
        return np.array(observation, self.dtype), info

    def is_deterministic(self) -> bool:
        """Whether a reset and a step with the same seeds and actions give the same observations."""
        observations = []
        for _ in range(2):
            _, info = self._reset(np.ones(self.num_envs, bool))
            observations.append(np.array(self.env.step(self._allowed_actions(info))[0]))
        return np.array_equal(observations[0], observations[1])

    def state_dict(self) -> dict[str, Any]:
        """Seeds and actions."""
        return self.history.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> Array:
        """Replay each environment's current episode, the longest first, so that all reach their last step together."""
        self.history.load_state_dict(state)
        lengths = np.array([len(actions) for actions in self.history.actions])
        longest = int(lengths.max())
        observation, info = self._reset(np.ones(self.num_envs, bool))
        for time in range(longest):
            if time and (starts := lengths == longest - time).any():
                self._reset(starts)
            actions = self._allowed_actions(info)  # of environments whose replay has not started
            for index, replayed in enumerate(self.history.actions):
                start = longest - len(replayed)
                if time >= start:
                    actions[index] = replayed[time - start]
            observation, *_, info = self.env.step(actions)
        if longest and (empty := lengths == 0).any():
            observation, _ = self._reset(empty)
        return np.array(observation, self.dtype)

    def _allowed_actions(self, info: dict[str, Any]) -> NDArray[np.int64]:
        """The first allowed action of each environment, (E,)."""
        masks = action_masks(info)
        return np.zeros(self.num_envs, np.int64) if masks is None else masks.argmax(1)

    def close(self) -> None:
        """End worker processes."""
        self.env.close()


class StateRestoredVectorEnv(ResumableVectorEnv):
    """An environment's own vector entry point, whose arrays, numbers and generator are its whole state.

    It resets by itself, on the step after an episode's end (gymnasium's default), so one seed decides all episodes.

    Args:
        env: the vector environment.
        dtype: of observations.
    """

    def __init__(self, env: VectorEnv, dtype: np.dtype[Any]) -> None:
        self.env, self.num_envs, self.dtype = env, env.num_envs, dtype

    def reset(self, seed: int) -> tuple[Array, Mask]:
        """Start an episode in every environment."""
        observation, info = self.env.reset(seed=seed % 2**31)
        return np.array(observation, self.dtype), action_masks(info)

    def step(self, actions: NDArray[np.int64], ended: NDArray[np.bool_]) -> VectorStep:
        """Step the environments."""
        observation, reward, terminated, truncated, info = self.env.step(actions)
        return VectorStep(np.array(observation, self.dtype), reward, terminated, truncated, action_masks(info))

    def reset_env(self, index: int) -> tuple[Array, Mask]:
        """Never called, since `load_state_dict` returns no observation that could differ."""
        raise AssertionError(index)

    def is_deterministic(self) -> bool:
        """Whether its state, loaded again, gives the same observations, also over the ends of episodes."""
        self.env.reset(seed=0)
        generator = np.random.default_rng(0)
        actions = generator.integers(self.env.single_action_space.n, size=(120, self.num_envs))  # type: ignore[attr-defined]
        for row in actions[:40]:
            self.env.step(row)
        state, observations = self.state_dict(), []
        for _ in range(2):
            self.load_state_dict(state)
            observations.append(np.stack([np.asarray(self.env.step(row)[0]) for row in actions[40:]]))
        return np.array_equal(observations[0], observations[1])

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
        """Restore the environments. Returns no rows: nothing is replayed."""
        inner = self.env.unwrapped
        for name, value in state["state"].items():
            setattr(inner, name, value.numpy().copy() if isinstance(value, torch.Tensor) else value)
        inner.np_random.bit_generator.state = state["generator"]
        return np.empty(0)

    def close(self) -> None:
        """Close windows."""
        self.env.close()


def action_masks(info: dict[str, Any]) -> Mask:
    """The action masks of a vector environment, (E, A).

    Args:
        info: that a reset or step returned.
    """
    masks = info.get(ACTION_MASK)
    return None if masks is None else np.stack([*masks]).astype(bool)
