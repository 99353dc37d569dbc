"""The latest transitions of an agent, stored whole. Knows no environment and no model.

B transitions a batch, E environments, R rows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aibig.config.settings import ExistingPath, PositiveInt
from aibig.data.replay.base import Array, EnvStep, Indices, ReplayBuffer, ReplaySpec, Transitions, allocate, first_rows
from aibig.data.replay.n_step import NStepAccumulator
from aibig.data.replay.transition_files import read_transitions
from aibig.errors import UserError


class TransitionReplayBuffer(ReplayBuffer):
    """A ring of the latest transitions, packed into one block of float32, so that a batch is one gather.

    It takes capacity * (2 * numbers of an observation + 3) * 4 bytes; with action masks 2 * actions more numbers.
    (Experience replay: Lin 1992; arXiv 1312.5602, algorithm 1.)

    Args:
        spec: what the steps are like.
        batch_size: transitions of a micro-batch over all ranks.
        capacity: transitions that are stored; the oldest are overwritten.
        demonstrations: a file of transitions, as aibig.save_transitions writes it, that are there from the beginning
            and never overwritten.

    Raises:
        UserError: there is not enough memory for the capacity.
    """

    def __init__(
        self,
        spec: ReplaySpec,
        *,
        batch_size: PositiveInt = 64,
        capacity: PositiveInt = 50_000,
        demonstrations: ExistingPath | None = None,
    ) -> None:
        observation_size, mask_size = math.prod(spec.observation_shape), spec.actions if spec.action_masks else 0
        # Observation and mask, next observation and mask, reward, discount, action.
        self._columns = [observation_size, mask_size, observation_size, mask_size, 1, 1, 1]
        self._tensor = allocate(capacity, (sum(self._columns),), torch.float32)
        super().__init__(spec, batch_size, capacity, capacity)
        self._rows = self._tensor.numpy()  # the same memory
        self._added = 0
        self._accumulator = NStepAccumulator(spec.n_step, spec.discount)
        self._demonstrations = 0  # the first transitions, never overwritten
        if demonstrations is not None:
            rows = read_transitions(demonstrations, spec)
            count = len(rows[0])
            if count >= capacity:
                raise UserError(
                    f"{demonstrations}: has {count:,} transitions; set a capacity above that, not {capacity:,}"
                )
            self._store(*rows)
            self._demonstrations, self._added = count, 0

    def __len__(self) -> int:
        """Transitions that can be sampled."""
        return min(self._demonstrations + self._added, self.capacity)

    def add(self, step: EnvStep) -> None:
        """Store the transitions that a step completes, over the oldest."""
        observation = _flatten(step.observation, step.action_mask)
        next_observation = _flatten(step.next_observation, step.next_action_mask)
        reward, ended = self.spec.scale_and_clip(step.reward), step.terminated | step.truncated
        for rows in self._accumulator.add(
            observation, step.action, reward, next_observation, step.terminated, ended, step.is_transition
        ):
            self._store(*rows)

    def _store(
        self, observation: Array, action: Array, reward: Array, next_observation: Array, discount: Array
    ) -> None:
        """Store R transitions; of more than `capacity` the last."""
        columns = [observation, next_observation, *(array.reshape(-1, 1) for array in (reward, discount, action))]
        free = self.capacity - self._demonstrations
        rows = np.concatenate(columns, 1, dtype=np.float32, casting="same_kind")[-free:]
        indices = self._demonstrations + (self._added + np.arange(len(rows))) % free
        self._rows[indices] = rows
        if self._priorities is not None:
            self._priorities.add(indices)
        self._added += len(rows)

    def _sample_uniform(self, batch_size: int, generator: torch.Generator) -> Indices:
        indices: Indices = torch.randint(len(self), (batch_size,), generator=generator).numpy()
        return indices

    def _gather(self, indices: Indices, weight: Tensor | None) -> Transitions:
        rows = self._tensor.index_select(0, torch.from_numpy(indices))
        observation, mask, next_observation, next_mask, reward, discount, action = rows.split(self._columns, 1)
        shape, dtype = (len(indices), *self.spec.observation_shape), self.spec.observation_dtype
        if len(shape) != 2:
            observation, next_observation = observation.view(shape).to(dtype), next_observation.view(shape).to(dtype)
        return Transitions(
            observation,
            action.squeeze(1).long(),
            reward.squeeze(1),
            next_observation,
            discount.squeeze(1),
            mask > 0 if self.spec.action_masks else None,
            next_mask > 0 if self.spec.action_masks else None,
            weight,
            torch.from_numpy(indices),
        )

    def discard_pending(self, environments: list[int]) -> None:
        """Discard the steps whose n-step transition is not complete."""
        self._accumulator.discard_pending(environments)

    def state_dict(self) -> dict[str, Any]:
        """The rows that are filled, how many were ever added, pending steps and priorities."""
        return {
            **super().state_dict(),
            "rows": first_rows(self._rows, len(self)),
            "added": self._added,
            "demonstrations": self._demonstrations,
            "accumulator": self._accumulator.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the buffer. Raises UserError if the state is of another capacity."""
        super().load_state_dict(state)
        self._added, self._demonstrations = state["added"], state["demonstrations"]
        self._tensor[: len(self)] = state["rows"]
        self._accumulator.load_state_dict(state["accumulator"])


def _flatten(observation: Array, mask: Array | None) -> Array:
    """(E, numbers of an observation and its mask)."""
    flat = observation.reshape(len(observation), -1)
    return flat if mask is None else np.concatenate([flat, mask], 1, dtype=np.float32)
