"""What an agent learns from: rows of what happened, and how those who keep them are told of it.

B transitions, E environments, A actions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aibig.errors import UserError

Array = NDArray[Any]


class Transitions(NamedTuple):
    """What happened, row by row."""

    observation: Tensor  # (B, ...)
    action: Tensor  # (B,) int64
    reward: Tensor  # (B,) of all its steps, discounted
    next_observation: Tensor  # (B, ...)
    discount: Tensor  # (B,) what the next observation's value counts for; 0 where the episode ended for good
    action_mask: Tensor | None  # (B, A) the actions that could be taken, where not all always can
    next_action_mask: Tensor | None  # (B, A)
    weight: Tensor | None  # (B,) importance weights over their largest, where draws are not uniform
    indices: Tensor  # (B,) int64 where each is kept, for `update_priorities`


class EnvStep(NamedTuple):
    """What one step of E environments gave, in NumPy. Only `terminated` ends the future's value; truncated does not."""

    observation: Array  # (E, ...) acted on
    action: Array  # (E,) int64
    reward: Array  # (E,) float32
    next_observation: Array  # (E, ...) of the same episode, also at its end
    terminated: Array  # (E,) bool
    truncated: Array  # (E,) bool
    is_transition: Array  # (E,) bool, False where the environment was reset instead
    action_mask: Array | None = None  # (E, A) allowed at `observation`; None: all always are
    next_action_mask: Array | None = None  # (E, A)
    finished: Sequence[tuple[float, int]] = ()  # (return, length in env steps) of the episodes that ended


@dataclass(frozen=True)
class ReplaySpec:
    """What the steps to be kept are like, and how they are joined and drawn.

    observation_dtype: bytes of pictures stay bytes. frame_stack: frames that stand along the first axis of an
    observation, each step with one new. action_masks: whether not all actions can always be taken. n_step: steps whose
    rewards a transition sums. priority_exponent: 0 draws uniformly. reward_scale, reward_clip: see `rewards`.
    device: that learns from them.
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

    def rewards(self, given: Array) -> Array:
        """Those to learn from, wherever they come from: given ones (E,) scaled, then cut off at +-reward_clip."""
        scaled = given if self.reward_scale == 1.0 else given * np.float32(self.reward_scale)
        return scaled if self.reward_clip is None else scaled.clip(-self.reward_clip, self.reward_clip)


class ReplayBuffer(Protocol):
    """Keeps steps and draws transitions."""

    spec: ReplaySpec
    batch_size: int
    capacity: int  # transitions that it can hold
    is_fixed: bool  # nothing can be added: the agent does not act

    def __len__(self) -> int:
        """Transitions that can be drawn."""

    def add(self, step: EnvStep) -> None:
        """Keep what E environments did at one time."""

    def sample(self, count: int, generator: torch.Generator, importance_exponent: float = 1.0) -> Transitions:
        """`count` transitions, drawn with replacement."""

    def update_priorities(self, indices: Tensor, errors: Tensor) -> None:
        """The errors (B,) of what was sampled from these indices (B,)."""

    def forget(self, environments: list[int]) -> None:
        """Drop the open steps of some environments, whose episodes can't be gone on with."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors that share memory with it."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""


def reserved(capacity: int, shape: tuple[int, ...], dtype: torch.dtype, device: Any = None) -> Tensor:
    """Zeros (capacity, *shape), on a CPU unless a `device` is given: there memory is taken only as they are filled.

    Raises UserError where so much can't even be reserved.
    """
    try:
        if device is not None:
            return torch.zeros((capacity, *shape), dtype=dtype, device=device)
        return torch.from_numpy(np.zeros((capacity, *shape), torch.empty(0, dtype=dtype).numpy().dtype))
    except (MemoryError, ValueError, torch.OutOfMemoryError):  # ValueError: more than addresses there are
        gigabytes = capacity * math.prod(shape) * dtype.itemsize / 1e9
        raise UserError(f"capacity {capacity:,} takes {gigabytes:,.1f} GB, which are not there; set less") from None


def check_capacity(now: int, before: int) -> None:
    """Raise UserError if a replay is not as large as the one whose state it gets."""
    if now != before:
        raise UserError(f"data.capacity {now:,}: the run began with {before:,}; go on with that, or begin anew")


def filled(array: np.ndarray[Any, Any], count: int) -> Tensor:
    """The first `count` rows, in place: a tensor's own slice would be saved with all that it is a slice of."""
    return torch.from_numpy(array[:count])
