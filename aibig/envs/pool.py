"""Several copies of an environment stepped together, exactly resumable. Knows no model and no replay.

E environments, A actions. An environment that has ended is reset by the next step, as gymnasium does by default; that
is no transition, so that none crosses an episode's end.
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
from aibig.envs.copies import Array, Copies, Vector
from aibig.envs.episodes import Policy, run_episodes
from aibig.envs.vectors import SeededVector, SnapshotVector
from aibig.envs.wrappers import Env, check_conduct, make_env
from aibig.errors import UserError
from aibig.seeds import derive_seed

Vectorization = Literal["auto", "vector_entry_point", "sync", "async"]


class EnvPool:
    """`count` copies of an environment. make: a function that makes one.

    vectorization: "vector_entry_point", the environment's own; "sync", one after the other in this process, each
    episode with a seed of its own; "async", each in a process of its own, which pays for environments that take
    milliseconds; "auto", the first for more than one, if it has one that can be resumed exactly, else the second.
    frame_stack: the latest observations that make one.

    Observations are float32, pictures of bytes stay so. What is not a Box is flattened; "action_mask", in `info` or
    of a Dict observation, says which actions are allowed.

    Raises UserError for actions that are not Discrete, and for an environment that does not follow gymnasium's API.
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
        self.make = partial(make_env, make, frame_stack)
        first = self.make()
        self.name = first.spec.id if first.spec else type(first.unwrapped).__name__
        dtype, self.has_action_masks = check_conduct(first, self.name)
        self._describe(first.action_space, first.observation_space, dtype)
        self._vector = self._vectorise(make, vectorization, first)

    def _describe(self, actions: Any, observations: Any, dtype: np.dtype[Any]) -> None:
        self.actions, self.observation_shape = int(actions.n), tuple(observations.shape)
        self.observation_dtype = dtype
        self.restarted: list[int] = []

    def _vectorise(self, make: Callable[[], Env], vectorization: Vectorization, first: Env) -> Vector:
        dtype = np.dtype(self.observation_dtype)
        if vectorization == "async":
            return SeededVector(gymnasium.vector.AsyncVectorEnv([self.make] * self.count), dtype)
        asked = vectorization == "vector_entry_point"
        if asked or (vectorization == "auto" and self.count > 1):
            own = own_vector(make, self.count) if self.frame_stack == 1 and not self.has_action_masks else None
            if own is not None and own.single_observation_space == first.observation_space:
                vector = SnapshotVector(own, dtype, partial(own_vector, make))
                if vector.repeats() or asked:
                    return vector
            if asked:
                raise UserError(
                    f"vectorization: {self.name!r} has no vector entry point with these settings; take 'sync'"
                )
        return Copies(self.make, self.count, dtype, first)

    def begin(self, seed: int) -> None:
        """Start an episode in every environment; `seed` decides the course of all."""
        if not self._vector.repeats():
            warnings.warn(self._not_repeating(), stacklevel=2)
        begun = self._vector.begin(seed)
        self.observation, self.action_mask = begun.observation, begun.action_mask
        self._ended = np.zeros(self.count, bool)
        self._returns, self._lengths = np.zeros(self.count), np.zeros(self.count, np.int64)

    def step(self, actions: NDArray[np.int64]) -> EnvStep:
        """Act (E,) in every environment. Raises UserError for a reward or observation that is not finite."""
        is_transition, before, mask = ~self._ended, self.observation, self.action_mask
        after, reward, terminated, truncated, next_mask = self._vector.step(actions, self._ended)
        self._returns += reward
        self._lengths += is_transition
        ended = terminated | truncated
        finished = []
        if ended.any():
            for index in np.flatnonzero(ended).tolist():
                finished.append((float(self._returns[index]), int(self._lengths[index])))
            self._returns[ended] = 0.0
            self._lengths[ended] = 0
        self.observation, self.action_mask, self._ended = after, next_mask, ended
        sums = float(reward.sum()) + (float(after.sum()) if after.dtype == np.float32 else 0.0)
        if not math.isfinite(sums):
            self._check_finite(reward, after)
        return EnvStep(before, actions, reward, after, terminated, truncated, is_transition, mask, next_mask, finished)

    def _check_finite(self, reward: NDArray[np.float32], after: Array) -> None:
        finite = np.isfinite(reward) & np.isfinite(after.reshape(self.count, -1)).all(1)
        if not finite.all():
            index = int(np.flatnonzero(~finite)[0])
            raise UserError(
                f"environment {self.name!r} (copy {index}, step {self._lengths[index]} of its episode) gave a reward "
                "or observation that is not finite; mend the environment"
            )

    def run_episodes(
        self, policy: Policy, seeds: Sequence[int], at_once: int | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """One episode for each of `seeds`, in other environments: returns (episodes,), and lengths in env steps.

        Where the pool is a vector entry point, the episodes are played in one, whose seed is made of all of `seeds`.
        """
        if isinstance(self._vector, SnapshotVector) and at_once is None:
            return self._vector.run_episodes(policy, derive_seed("episodes", *seeds), len(seeds))
        return run_episodes(self.make, policy, seeds, self.observation_dtype, at_once=at_once)

    def state_dict(self) -> dict[str, Any]:
        """What rebuilds the environments, and where their episodes stand."""
        return {
            "vector": self._vector.state_dict(),
            "observation": torch.from_numpy(self.observation.copy()),
            "action_mask": None if self.action_mask is None else torch.from_numpy(self.action_mask.copy()),
            "ended": torch.from_numpy(self._ended.copy()),
            "returns": self._returns.tolist(),
            "lengths": self._lengths.tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Rebuild what `state_dict` gave. Where an environment comes out otherwise, warn, and begin an episode.

        `restarted` lists those afterwards: what they did before leads nowhere.
        """
        self.observation, self._ended = state["observation"].numpy().copy(), state["ended"].numpy().copy()
        self.action_mask = None if state["action_mask"] is None else state["action_mask"].numpy().copy()
        self._returns, self._lengths = np.array(state["returns"]), np.array(state["lengths"], np.int64)
        self.restarted = []
        rebuilt = self._vector.load_state_dict(state["vector"])
        for index in range(len(rebuilt)):
            if not np.array_equal(rebuilt[index], self.observation[index]):
                warnings.warn(f"{self._not_repeating()}; copy {index} begins a new episode", stacklevel=2)
                self.restarted.append(index)
                self.observation[index], mask = self._vector.restart(index)
                if self.action_mask is not None:
                    self.action_mask[index] = mask
                self._returns[index], self._lengths[index], self._ended[index] = 0.0, 0, False

    def close(self) -> None:
        """End what runs beside this process."""
        self._vector.close()

    def _not_repeating(self) -> str:
        return (
            f"environment {self.name!r} gives other observations for the same seed and actions, so a run in it can't "
            "be resumed exactly; make its randomness depend on reset(seed=...)"
        )


def own_vector(make: Callable[[], Env], count: int) -> gymnasium.vector.VectorEnv[Any, Any, Any] | None:
    """The vector entry point of the environment that `make` makes with gymnasium.make; None if there is none.

    One that does not know the settings is none either, nor is one that resets otherwise than by the next step.
    """
    if not isinstance(make, partial) or make.func is not gymnasium.make:
        return None
    settings = {name: value for name, value in make.keywords.items() if name != "disable_env_checker"}
    try:
        env = gymnasium.make_vec(make.args[0], count, "vector_entry_point", **settings)
    except (gymnasium.error.Error, TypeError, ImportError):
        return None
    is_next = env.metadata.get("autoreset_mode") == gymnasium.vector.AutoresetMode.NEXT_STEP
    return env if is_next else None
