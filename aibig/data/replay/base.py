"""The contract of a replay buffer: what it is given, what it returns. Knows no environment and no model.

B transitions, E environments, A actions.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aibig.data.replay.priorities import Priorities, importance_weights
from aibig.errors import UserError

Array = NDArray[Any]
Indices = NDArray[np.int64]


class Transitions(NamedTuple):
    """A batch from a replay buffer."""

    observation: Tensor  # (B, ...)
    action: Tensor  # (B,) int64
    reward: Tensor  # (B,) discounted sum over the n steps
    next_observation: Tensor  # (B, ...) after the n steps
    discount: Tensor  # (B,) what the next observation's value is multiplied by; 0 where the episode terminated
    action_mask: Tensor | None  # (B, A) allowed at `observation`; None: all actions always are
    next_action_mask: Tensor | None  # (B, A)
    weight: Tensor | None  # (B,) importance weights over their largest; None where sampling is uniform
    indices: Tensor  # (B,) int64, for `update_priorities`


class EnvStep(NamedTuple):
    """What one step of E environments gave, in NumPy. Only `terminated` stops bootstrapping; truncated does not."""

    observation: Array  # (E, ...) acted on
    action: Array  # (E,) int64
    reward: Array  # (E,) float32
    next_observation: Array  # (E, ...) of the same episode, also at its end
    terminated: Array  # (E,) bool
    truncated: Array  # (E,) bool
    is_transition: Array  # (E,) bool, False where the environment was reset instead
    action_mask: Array | None = None  # (E, A) allowed at `observation`; None: all actions always are
    next_action_mask: Array | None = None  # (E, A)
    finished: Sequence[tuple[float, int]] = ()  # (return, length in env steps) of the episodes that ended


@dataclass(frozen=True)
class ReplaySpec:
    """What the steps are like that a replay buffer stores, and how it builds and samples transitions.

    Args:
        observation_shape: of one observation.
        actions: A.
        environments: E.
        observation_dtype: torch.uint8 for images of bytes, else torch.float32.
        frame_stack: frames along the first axis of an observation, of which each step has one new.
        action_masks: whether not all actions are always allowed.
        n_step: env steps whose rewards a transition sums.
        discount: what the next state's value is multiplied by (gamma).
        priority_exponent: alpha of prioritised replay (arXiv 1511.05952); 0 samples uniformly.
        reward_scale: what rewards are multiplied by.
        reward_clip: where scaled rewards are clipped, at plus and minus this; None: nowhere.
        device: that learns from the transitions.
    """

    observation_shape: tuple[int, ...]
    actions: int
    environments: int = 1
    observation_dtype: torch.dtype = torch.float32
    frame_stack: int = 1
    action_masks: bool = False
    n_step: int = 1
    discount: float = 0.99
    priority_exponent: float = 0.0
    reward_scale: float = 1.0
    reward_clip: float | None = None
    device: torch.device | str = "cpu"

    def scale_and_clip(self, reward: Array) -> Array:
        """The rewards to learn from, wherever they come from.

        Args:
            reward: as the environment gave it, any shape.
        """
        scaled = reward if self.reward_scale == 1.0 else reward * np.float32(self.reward_scale)
        return scaled if self.reward_clip is None else scaled.clip(-self.reward_clip, self.reward_clip)


class ReplayBuffer(ABC):
    """Stores env steps and samples transitions.

    Args:
        spec: what the steps are like.
        batch_size: transitions of a micro-batch over all ranks.
        capacity: transitions that it can hold.
        num_indices: the indices of transitions are below this.
    """

    is_offline: ClassVar[bool] = False  # whether nothing can be added: the agent does not act

    def __init__(self, spec: ReplaySpec, batch_size: int, capacity: int, num_indices: int) -> None:
        self.spec, self.batch_size, self.capacity, self._num_indices = spec, batch_size, capacity, num_indices
        self._priorities = Priorities(num_indices, spec.priority_exponent) if spec.priority_exponent else None

    @abstractmethod
    def __len__(self) -> int:
        """Transitions that can be sampled."""

    @abstractmethod
    def add(self, step: EnvStep) -> None:
        """Store a step of E environments.

        Args:
            step: what the environments gave.
        """

    def sample(self, batch_size: int, generator: torch.Generator, importance_exponent: float = 1.0) -> Transitions:
        """Sample transitions with replacement.

        Args:
            batch_size: B.
            generator: of random numbers.
            importance_exponent: beta of the importance weights; counts only where there are priorities.
        """
        if self._priorities is None:
            return self._gather(self._sample_uniform(batch_size, generator), None)
        indices, probabilities = self._priorities.sample(batch_size, generator)
        return self._gather(indices, importance_weights(probabilities, importance_exponent))

    @abstractmethod
    def _sample_uniform(self, batch_size: int, generator: torch.Generator) -> Indices: ...

    @abstractmethod
    def _gather(self, indices: Indices, weight: Tensor | None) -> Transitions: ...

    def update_priorities(self, indices: Tensor, td_errors: Tensor) -> None:
        """Set the priorities of sampled transitions, where sampling is not uniform.

        Args:
            indices: of the transitions, (B,).
            td_errors: their absolute TD errors, (B,).
        """
        if self._priorities is not None:
            self._priorities.update(indices, td_errors)

    @abstractmethod
    def discard_pending(self, environments: list[int]) -> None:
        """Discard the steps whose n-step transition is not complete, of environments whose episode was lost.

        Args:
            environments: indices of those environments.
        """

    def state_dict(self) -> dict[str, Any]:
        """Tensors that share memory with the buffer, and plain values."""
        priorities = None if self._priorities is None else self._priorities.state_dict()
        return {"capacity": self._num_indices, "priorities": priorities}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the buffer.

        Args:
            state: from `state_dict`.

        Raises:
            UserError: the state is of another capacity.
        """
        now, before = self._num_indices, state["capacity"]
        if now != before:
            raise UserError(f"data.capacity {now:,}: the run began with {before:,}; resume with that, or start anew")
        if self._priorities is not None:
            self._priorities.load_state_dict(state["priorities"])


def allocate(capacity: int, shape: tuple[int, ...], dtype: torch.dtype, device: Any = None) -> Tensor:
    """Zeros (capacity, *shape).

    Args:
        capacity: rows.
        shape: of a row.
        dtype: of the tensor.
        device: None: the CPU, where memory is taken only as rows are written.

    Raises:
        UserError: there is not so much memory.
    """
    try:
        if device is not None:
            return torch.zeros((capacity, *shape), dtype=dtype, device=device)
        return torch.from_numpy(np.zeros((capacity, *shape), torch.empty(0, dtype=dtype).numpy().dtype))
    except (MemoryError, ValueError, torch.OutOfMemoryError):  # ValueError: more than addresses there are
        gigabytes = capacity * math.prod(shape) * dtype.itemsize / 1e9
        raise UserError(f"capacity {capacity:,} takes {gigabytes:,.1f} GB, which are not there; set less") from None


def first_rows(array: np.ndarray[Any, Any], count: int) -> Tensor:
    """The first rows of an array, in the same memory: a tensor's own slice would be saved with all of its storage.

    Args:
        array: any.
        count: rows.
    """
    return torch.from_numpy(array[:count])
