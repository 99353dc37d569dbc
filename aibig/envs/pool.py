"""Several copies of an environment stepped together, exactly resumable. Knows no model and no replay.

E environments, A actions. An environment whose episode has ended is reset by the next step, as gymnasium does by
default; that is no transition, so none crosses an episode's end.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from aibig.config.settings import PositiveInt
from aibig.data.replay.base import EnvStep
from aibig.envs.episodes import MAX_ENVS, EpisodeEnvs, Policy, SyncEpisodes, VectorEpisodes, run_episodes
from aibig.envs.gymnasium_vectors import ReplayRestoredVectorEnv, StateRestoredVectorEnv, VectorEnv
from aibig.envs.sync_vector import SequentialVectorEnv
from aibig.envs.vectors import ResumableVectorEnv
from aibig.envs.wrappers import Array, Env, check_env, make_env
from aibig.errors import UserError

Vectorization = Literal["auto", "vector_entry_point", "sync", "async"]


class EnvPool:
    """Copies of an environment that are stepped together.

    Observations are float32; images of bytes stay bytes. What is not a Box is flattened. "action_mask", in `info` or
    in a Dict observation, says which actions are allowed.

    Args:
        make: a function that returns one environment.
        count: environments that are stepped together.
        vectorization: "vector_entry_point", the environment's own; "sync", one after the other in this process, each
            episode with a seed of its own; "async", each in a process of its own, which pays for environments whose
            steps take milliseconds; "auto", the first for more than one environment, if there is one that can be
            resumed exactly, else the second.
        frame_stack: latest observations that are stacked.

    Raises:
        UserError: the actions are not Discrete, or the environment does not follow gymnasium's API.
    """

    registered: dict[str, Any] | None = None  # name and settings, where the registry made it

    def __init__(
        self,
        make: Callable[[], Env],
        *,
        count: PositiveInt = 1,
        vectorization: Vectorization = "auto",
        frame_stack: PositiveInt = 1,
    ) -> None:
        self.count, self.frame_stack = count, frame_stack
        self.make_env = partial(make_env, make, frame_stack)
        self._make_vector_env = partial(vector_entry_point, make)
        env = self.make_env()
        self.name = env.spec.id if env.spec else type(env.unwrapped).__name__
        dtype, self.has_action_masks = check_env(env, self.name)
        self._set_spaces(env.action_space, env.observation_space, dtype)
        self._vector = self._make_vector(vectorization, env)

    def _set_spaces(self, actions: Any, observations: Any, dtype: np.dtype[Any]) -> None:
        self.actions, self.observation_shape = int(actions.n), tuple(observations.shape)
        self.observation_dtype = dtype
        self.restarted: list[int] = []

    def _make_vector(self, vectorization: Vectorization, first: Env) -> ResumableVectorEnv:
        dtype, is_required = self.observation_dtype, vectorization == "vector_entry_point"
        if vectorization == "async":
            return ReplayRestoredVectorEnv(gymnasium.vector.AsyncVectorEnv([self.make_env] * self.count), dtype)
        if is_required or (vectorization == "auto" and self.count > 1):
            is_plain = self.frame_stack == 1 and not self.has_action_masks
            vector_env = self._make_vector_env(self.count) if is_plain else None
            if vector_env is not None and vector_env.single_observation_space == first.observation_space:
                vector = StateRestoredVectorEnv(vector_env, dtype)
                if vector.is_deterministic() or is_required:
                    return vector
            if is_required:
                raise UserError(
                    f"vectorization: {self.name!r} has no vector entry point with these settings; take 'sync'"
                )
        return SequentialVectorEnv(self.make_env, self.count, dtype, first)

    def reset(self, seed: int) -> None:
        """Start an episode in every environment.

        Args:
            seed: decides the course of all episodes.
        """
        if not self._vector.is_deterministic():
            warnings.warn(self._not_deterministic(), stacklevel=2)
        self.observation, self.action_mask = self._vector.reset(seed)
        self._ended = np.zeros(self.count, bool)
        self._returns, self._lengths = np.zeros(self.count), np.zeros(self.count, np.int64)

    def step(self, actions: NDArray[np.int64]) -> EnvStep:
        """Step every environment.

        Args:
            actions: the action of each environment, (E,).

        Raises:
            UserError: a reward or observation is not finite.
        """
        is_transition, observation = ~self._ended, self.observation
        next_observation, reward, terminated, truncated, next_mask = self._vector.step(actions, self._ended)
        self._returns += reward
        self._lengths += is_transition
        ended = terminated | truncated
        finished = []
        if ended.any():
            finished = [(float(self._returns[i]), int(self._lengths[i])) for i in np.flatnonzero(ended).tolist()]
            self._returns[ended] = 0.0
            self._lengths[ended] = 0
        masks = self.action_mask, next_mask
        self.observation, self.action_mask, self._ended = next_observation, next_mask, ended
        has_floats = next_observation.dtype == np.float32
        if not math.isfinite(float(reward.sum()) + (float(next_observation.sum()) if has_floats else 0.0)):
            self._check_finite(reward, next_observation)
        return EnvStep(
            observation, actions, reward, next_observation, terminated, truncated, is_transition, *masks, finished
        )

    def _check_finite(self, reward: NDArray[np.float32], observation: Array) -> None:
        finite = np.isfinite(reward) & np.isfinite(observation.reshape(self.count, -1)).all(1)
        if not finite.all():
            index = int(np.flatnonzero(~finite)[0])
            raise UserError(
                f"environment {self.name!r} (copy {index}, step {self._lengths[index]} of its episode) returned a "
                "reward or observation that is not finite; correct the environment"
            )

    def run_episodes(
        self, policy: Policy, seeds: Sequence[int], num_envs: int | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Play one episode for each seed, in environments of their own.

        Args:
            policy: from observations (E, ...) and action masks (E, A), or None, to actions (E,).
            seeds: the seed of each episode. Where the pool is a vector entry point and `num_envs` is None, one seed,
                derived from all of them, decides all episodes.
            num_envs: environments side by side; None: up to 64.

        Returns:
            Returns (episodes,), and lengths (episodes,) in env steps.
        """
        return run_episodes(self._episode_envs(len(seeds), num_envs), policy, seeds)

    def _episode_envs(self, episodes: int, num_envs: int | None) -> EpisodeEnvs:
        if isinstance(self._vector, StateRestoredVectorEnv) and num_envs is None:
            vector_env = self._make_vector_env(episodes)
            assert vector_env is not None
            return VectorEpisodes(vector_env, self.observation_dtype, is_seeded=False)
        return SyncEpisodes(self.make_env, min(episodes, num_envs or MAX_ENVS), self.observation_dtype)

    def state_dict(self) -> dict[str, Any]:
        """What rebuilds the environments, and where their episodes are."""
        return {
            "vector": self._vector.state_dict(),
            "observation": torch.from_numpy(self.observation.copy()),
            "action_mask": None if self.action_mask is None else torch.from_numpy(self.action_mask.copy()),
            "ended": torch.from_numpy(self._ended.copy()),
            "returns": self._returns.tolist(),
            "lengths": self._lengths.tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Rebuild the environments. One whose observation differs from the saved one is reset, with a warning.

        `restarted` lists their indices; their pending transitions must be discarded.

        Args:
            state: from `state_dict`.
        """
        self.observation, self._ended = state["observation"].numpy().copy(), state["ended"].numpy().copy()
        self.action_mask = None if state["action_mask"] is None else state["action_mask"].numpy().copy()
        self._returns, self._lengths = np.array(state["returns"]), np.array(state["lengths"], np.int64)
        self.restarted = []
        rebuilt = self._vector.load_state_dict(state["vector"])
        for index in range(len(rebuilt)):
            if not np.array_equal(rebuilt[index], self.observation[index]):
                warnings.warn(f"{self._not_deterministic()}; copy {index} starts a new episode", stacklevel=2)
                self.restarted.append(index)
                self.observation[index], mask = self._vector.reset_env(index)
                if self.action_mask is not None:
                    self.action_mask[index] = mask
                self._returns[index], self._lengths[index], self._ended[index] = 0.0, 0, False

    def close(self) -> None:
        """Close windows and end worker processes."""
        self._vector.close()

    def _not_deterministic(self) -> str:
        return (
            f"environment {self.name!r} returns other observations for the same seed and actions, so a run in it can't "
            "be resumed exactly; make its randomness depend on reset(seed=...)"
        )


def vector_entry_point(make: Callable[[], Env], num_envs: int) -> VectorEnv | None:
    """The vector environment that comes with an environment, made by its vector entry point.

    Args:
        make: makes the environment; only a `partial` of gymnasium.make has an entry point.
        num_envs: environments in it.

    Returns:
        None if there is none, it doesn't know the settings, or it has another autoreset mode than NEXT_STEP.
    """
    if not isinstance(make, partial) or make.func is not gymnasium.make:
        return None
    settings = {name: value for name, value in make.keywords.items() if name != "disable_env_checker"}
    try:
        env = gymnasium.make_vec(make.args[0], num_envs, "vector_entry_point", **settings)
    except (gymnasium.error.Error, TypeError, ImportError):
        return None
    is_next_step = env.metadata.get("autoreset_mode") == gymnasium.vector.AutoresetMode.NEXT_STEP
    return env if is_next_step else None
