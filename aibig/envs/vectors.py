"""What environments side by side must do to be resumed exactly. Knows no model and no replay.

E environments, A actions.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from aibig.envs.wrappers import Array, Mask
from aibig.seeds import derive_seed


class VectorStep(NamedTuple):
    """What a step of E environments returns; a reset instead of a step has reward 0 and ends nothing."""

    observation: Array  # (E, ...)
    reward: NDArray[np.float32]  # (E,)
    terminated: NDArray[np.bool_]  # (E,)
    truncated: NDArray[np.bool_]  # (E,)
    action_mask: Mask  # (E, A)


class ResumableVectorEnv(Protocol):
    """E environments side by side, whose state can be saved and loaded."""

    def reset(self, seed: int) -> tuple[Array, Mask]:
        """Start an episode in every environment.

        Args:
            seed: decides the course of all episodes.

        Returns:
            Observations (E, ...) and action masks (E, A).
        """

    def step(self, actions: NDArray[np.int64], ended: NDArray[np.bool_]) -> VectorStep:
        """Step the environments whose episode goes on, and reset the others.

        Args:
            actions: the action of each environment, (E,).
            ended: whether the last step ended the environment's episode, (E,).
        """

    def is_deterministic(self) -> bool:
        """Whether the same seeds and actions give the same observations; called before `reset`."""

    def state_dict(self) -> dict[str, Any]:
        """What rebuilds the environments: tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> Array:
        """Rebuild the environments.

        Args:
            state: from `state_dict`.

        Returns:
            The observations (E, ...) after it, which differ where an environment is not deterministic; an empty array
            where they need no check.
        """

    def reset_env(self, index: int) -> tuple[Array, Mask]:
        """Start the next episode of one environment, which was not rebuilt exactly.

        Args:
            index: of the environment.

        Returns:
            Its observation (...) and action mask (A,).
        """

    def close(self) -> None:
        """Close windows and end worker processes."""


class EpisodeHistory:
    """The seeds of the episodes of E environments and the actions since they began, which rebuild an environment.

    Args:
        num_envs: E.
    """

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Start with the first episode of every environment.

        Args:
            seed: that the seeds of all episodes are derived from.
        """
        self.seed, self.episodes = seed, [0] * self.num_envs
        self.actions: list[list[int]] = [[] for _ in range(self.num_envs)]

    def seed_of(self, index: int) -> int:
        """The seed of the current episode of an environment.

        Args:
            index: of the environment.
        """
        return derive_seed(self.seed, "episode", index, self.episodes[index]) % 2**31

    def next_episode(self, index: int) -> None:
        """Count on to the next episode of an environment.

        Args:
            index: of the environment.
        """
        self.episodes[index] += 1
        self.actions[index] = []

    def state_dict(self) -> dict[str, Any]:
        """Seed, episode numbers and actions."""
        actions = [torch.tensor(actions, dtype=torch.int64) for actions in self.actions]
        return {"seed": self.seed, "episodes": self.episodes, "actions": actions}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the history.

        Args:
            state: from `state_dict`.
        """
        self.seed, self.episodes = state["seed"], list(state["episodes"])
        self.actions = [actions.tolist() for actions in state["actions"]]
