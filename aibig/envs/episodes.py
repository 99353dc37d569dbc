"""The loop over whole episodes with a policy. Knows no model: a policy is a function from observations to actions.

E environments, A actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from aibig.envs.gymnasium_vectors import VectorEnv, action_masks
from aibig.envs.wrappers import ACTION_MASK, Array, Env, Mask
from aibig.seeds import derive_seed

Policy = Callable[[Array, Mask], NDArray[np.int64]]  # observations (E, ...), action masks (E, A) -> actions (E,)
MAX_ENVS = 64  # side by side


class EpisodeBatch(NamedTuple):
    """What the policy sees at one time, a row for each environment."""

    episode: NDArray[np.int64]  # (E,) index of the episode that it plays; -1: none any more
    observation: Array  # (E, ...)
    action_mask: Mask  # (E, A)


class EpisodeEnvs(Protocol):
    """Environments that play one episode for each seed; one whose episode ends plays the next that waits."""

    def reset(self, seeds: Sequence[int]) -> EpisodeBatch:
        """Start the first episodes.

        Args:
            seeds: the seed of each episode.
        """

    def step(self, actions: NDArray[np.int64]) -> tuple[NDArray[Any], EpisodeBatch]:
        """Step every row of the last batch, and start the next episode where one has ended.

        Args:
            actions: the action of each row, (E,).

        Returns:
            The rewards (E,) of the last batch's rows, and the next batch.
        """

    def close(self) -> None:
        """Close windows."""


def run_episodes(
    envs: EpisodeEnvs, policy: Policy, seeds: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Play one episode for each seed: the loop of evaluation and of play.

    Args:
        envs: to play in; closed at the end.
        policy: from observations (E, ...) and action masks (E, A), or None, to actions (E,).
        seeds: the seed of each episode.

    Returns:
        Returns (episodes,), and lengths (episodes,) in env steps.
    """
    returns, lengths = np.zeros(len(seeds)), np.zeros(len(seeds), np.int64)
    with closing(envs):
        batch = envs.reset(seeds)
        while (playing := batch.episode >= 0).any():
            reward, next_batch = envs.step(policy(batch.observation, batch.action_mask))
            returns[batch.episode[playing]] += reward[playing]
            lengths[batch.episode[playing]] += 1
            batch = next_batch
    return returns, lengths


class SyncEpisodes(EpisodeEnvs):
    """Environments stepped one after the other in this process; a batch has a row for those that still play.

    Args:
        make: a function that returns one environment.
        num_envs: at most so many play side by side.
        dtype: of observations.
    """

    def __init__(self, make: Callable[[], Env], num_envs: int, dtype: np.dtype[Any]) -> None:
        self.envs, self.dtype = [make() for _ in range(num_envs)], dtype

    def reset(self, seeds: Sequence[int]) -> EpisodeBatch:
        """Start the first episodes."""
        self._waiting, self._idle = list(enumerate(seeds))[::-1], list(self.envs)
        self._running: dict[int, tuple[Env, Any, Any]] = {}  # episode -> its environment, observation, mask
        return self._batch()

    def step(self, actions: NDArray[np.int64]) -> tuple[NDArray[Any], EpisodeBatch]:
        """Step every environment that plays, and start the next episode where one has ended."""
        reward = np.zeros(len(actions))
        for row, (episode, action) in enumerate(zip([*self._running], actions.tolist(), strict=True)):
            env, *_ = self._running[episode]
            observation, reward[row], terminated, truncated, info = env.step(action)
            self._running[episode] = env, observation, info.get(ACTION_MASK)
            if terminated or truncated:
                del self._running[episode]
                self._idle.append(env)
        return reward, self._batch()

    def _batch(self) -> EpisodeBatch:
        while self._waiting and self._idle:
            (episode, seed), env = self._waiting.pop(), self._idle.pop()
            observation, info = env.reset(seed=seed)
            self._running[episode] = env, observation, info.get(ACTION_MASK)
        if not self._running:
            return EpisodeBatch(np.empty(0, np.int64), np.empty(0, self.dtype), None)
        _, observations, masks = zip(*self._running.values(), strict=True)
        action_mask = None if masks[0] is None else np.stack(masks).astype(bool)
        return EpisodeBatch(
            np.array([*self._running]), np.stack(observations).astype(self.dtype, copy=False), action_mask
        )

    def close(self) -> None:
        """Close all of them."""
        for env in self.envs:
            env.close()


class VectorEpisodes(EpisodeEnvs):
    """A vector environment; a batch has a row for each of its environments, also for those without an episode.

    Args:
        env: the vector environment, with at most as many environments as there are episodes.
        dtype: of observations.
        is_seeded: whether each environment takes a seed of its own and can be reset alone (`reset_mask`); else there
            must be as many environments as episodes, and one seed, derived from all seeds, decides all of them.
    """

    def __init__(self, env: VectorEnv, dtype: np.dtype[Any], *, is_seeded: bool) -> None:
        self.env, self.dtype, self.is_seeded = env, dtype, is_seeded

    def reset(self, seeds: Sequence[int]) -> EpisodeBatch:
        """Start the first episodes."""
        count = self.env.num_envs
        assert count <= len(seeds) and (self.is_seeded or count == len(seeds))
        self._seeds, self._started, self._episode = np.array(seeds), count, np.arange(count)
        seed: Any = self._seeds[:count] if self.is_seeded else derive_seed("episodes", *seeds) % 2**31
        return self._batch(*self.env.reset(seed=seed))

    def step(self, actions: NDArray[np.int64]) -> tuple[NDArray[Any], EpisodeBatch]:
        """Step all environments, and start the next episode where one has ended."""
        observation, reward, terminated, truncated, info = self.env.step(actions)
        ended = (self._episode >= 0) & (terminated | truncated)
        waiting = self._started + np.arange(ended.sum())
        self._started += len(waiting)
        self._episode = self._episode.copy()
        self._episode[ended] = np.where(waiting < len(self._seeds), waiting, -1)
        starts = ended & (self._episode >= 0)
        if starts.any():
            seed: Any = self._seeds[self._episode[starts]]
            observation, info = self.env.reset(seed=seed, options={"reset_mask": starts})
        return reward, self._batch(observation, info)

    def _batch(self, observation: Array, info: dict[str, Any]) -> EpisodeBatch:
        return EpisodeBatch(self._episode, np.asarray(observation, self.dtype), action_masks(info))

    def close(self) -> None:
        """Close the vector environment."""
        self.env.close()
