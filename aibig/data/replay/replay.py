"""The latest transitions of an agent, drawn at random. Knows no environment and no model.

B transitions a batch, E environments.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aibig.config.settings import ExistingPath, PositiveInt
from aibig.data.replay.base import Array, EnvStep, ReplaySpec, Transitions, check_capacity, filled, reserved
from aibig.data.replay.n_step import NStep
from aibig.data.replay.priorities import Priorities, importance_weights
from aibig.errors import UserError


class Replay:
    """A ring of the latest transitions, one packed block of float32, so that a batch is one gather.

    capacity: transitions kept; they take capacity * (2 * numbers of an observation + 3) * 4 bytes, with action masks
    2 * actions numbers more. batch_size: transitions of a micro-batch over all ranks. demonstrations: a file of
    transitions (see `StoredTransitions`) that are there from the beginning and never overwritten.
    (Experience replay: Lin 1992; arXiv 1312.5602, algorithm 1.)

    Raises UserError for a capacity for which no memory can be reserved.
    """

    is_fixed = False

    def __init__(
        self,
        spec: ReplaySpec,
        *,
        batch_size: PositiveInt = 64,
        capacity: PositiveInt = 50_000,
        demonstrations: ExistingPath | None = None,
    ) -> None:
        self.batch_size, self.capacity, self.spec = batch_size, capacity, spec
        self._numbers = math.prod(spec.observation_shape)
        masks = spec.actions if spec.action_masks else 0
        self._columns = [self._numbers, masks, self._numbers, masks, 1, 1, 1]  # seen, after, reward, discount, action
        self._tensor = reserved(capacity, (sum(self._columns),), torch.float32)
        self._rows = self._tensor.numpy()  # the same memory
        self._added = 0
        self._window = NStep(spec.n_step, spec.discount)
        self._priorities = Priorities(capacity, spec.priority_exponent) if spec.priority_exponent else None
        self._kept = 0  # transitions, the first, that are never overwritten
        if demonstrations is not None:
            self._demonstrate(demonstrations)

    def _demonstrate(self, path: str) -> None:
        from aibig.data.replay.stored_transitions import read_transitions

        rows = read_transitions(path, self.spec)
        if len(rows[0]) >= self.capacity:
            raise UserError(
                f"{path}: holds {len(rows[0]):,} transitions; set a capacity above that, not {self.capacity:,}"
            )
        self._put(*rows)
        self._kept, self._added = self._added, 0

    def __len__(self) -> int:
        """Transitions that can be drawn."""
        return min(self._kept + self._added, self.capacity)

    def add(self, steps: EnvStep) -> None:
        """Keep the transitions that this completes, over the oldest."""
        seen = _joined(steps.observation, steps.action_mask)
        after = _joined(steps.next_observation, steps.next_action_mask)
        ends = (steps.terminated, steps.terminated | steps.truncated, steps.is_transition)
        for rows in self._window.add(seen, steps.action, self.spec.rewards(steps.reward), after, *ends):
            self._put(*rows)

    def _put(self, seen: Array, action: Array, reward: Array, after: Array, discount: Array) -> None:
        """Keep R transitions; of more than `capacity` the last."""
        columns = [seen, after, *(one.reshape(-1, 1) for one in (reward, discount, action))]
        free = self.capacity - self._kept
        rows = np.concatenate(columns, 1, dtype=np.float32, casting="same_kind")[-free:]
        places = self._kept + (self._added + np.arange(len(rows))) % free
        self._rows[places] = rows
        if self._priorities is not None:
            self._priorities.add(places)
        self._added += len(rows)

    def sample(self, count: int, generator: torch.Generator, importance_exponent: float = 1.0) -> Transitions:
        """`count` transitions, drawn with replacement."""
        weight = None
        if self._priorities is None:
            index = torch.randint(len(self), (count,), generator=generator)
        else:
            places, probabilities = self._priorities.draw(count, generator)
            index, weight = torch.from_numpy(places), importance_weights(probabilities, importance_exponent)
        parts = self._tensor.index_select(0, index).split(self._columns, 1)
        seen, mask, after, next_mask, reward, discount, action = parts
        shape = self.spec.observation_shape
        if len(shape) != 1:
            seen, after = (one.view(count, *shape).to(self.spec.observation_dtype) for one in (seen, after))
        has_masks = self.spec.action_masks
        return Transitions(
            seen,
            action.squeeze(1).long(),
            reward.squeeze(1),
            after,
            discount.squeeze(1),
            mask > 0 if has_masks else None,
            next_mask > 0 if has_masks else None,
            weight,
            index,
        )

    def update_priorities(self, places: Tensor, errors: Tensor) -> None:
        """The errors (B,) of what was drawn at these places (B,)."""
        if self._priorities is not None:
            self._priorities.update(places, errors)

    def forget(self, environments: list[int]) -> None:
        """Drop the open steps of some environments, whose episodes can't be gone on with."""
        self._window.forget(environments)

    def state_dict(self) -> dict[str, Any]:
        """The rows that are filled, how many were ever added, open steps and priorities."""
        return {
            "rows": filled(self._rows, len(self)),
            "capacity": self.capacity,
            "added": self._added,
            "kept": self._kept,
            "window": self._window.state_dict(),
            "priorities": None if self._priorities is None else self._priorities.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave. Raises UserError if that had another capacity."""
        check_capacity(self.capacity, state["capacity"])
        self._added, self._kept = state["added"], state["kept"]
        self._tensor[: len(self)] = state["rows"]
        self._window.load_state_dict(state["window"])
        if self._priorities is not None:
            self._priorities.load_state_dict(state["priorities"])


def _joined(observation: Array, mask: Array | None) -> Array:
    """(E, numbers of an observation and its mask)."""
    flat = observation.reshape(len(observation), -1)
    return flat if mask is None else np.concatenate([flat, mask], 1, dtype=np.float32)
