"""The latest steps of an agent that sees images, each stored once. Knows no environment and no model.

B transitions a batch, E environments, S frames of a stack, H and W their height and width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from aibig.config.settings import PositiveInt
from aibig.data.replay.base import EnvStep, Indices, ReplayBuffer, ReplaySpec, Transitions, allocate, first_rows
from aibig.errors import UserError


class FrameReplayBuffer(ReplayBuffer):
    """A ring of slots, one for each time, in which every environment has its newest frame, action and reward.

    What an episode ends with has a slot too, since an environment is reset only by the step after; so stacks, next
    observations and n-step rewards are found by index when a transition is sampled. Of an episode's first
    observation the whole stack is stored, however the environment filled it.

    It takes capacity * (bytes of a frame + 12), 7.1 GB for a million of 84 x 84, and some more for first observations.

    Args:
        spec: what the steps are like.
        batch_size: transitions of a micro-batch over all ranks.
        capacity: steps that are stored, over all environments; the oldest are overwritten.
        on_device: store frames in the memory of the device that learns, so that a batch is gathered there.

    Raises:
        UserError: observations are not bytes, the capacity is too small for one step, or there is not enough memory.
    """

    def __init__(
        self,
        spec: ReplaySpec,
        *,
        batch_size: PositiveInt = 32,
        capacity: PositiveInt = 100_000,
        on_device: bool = False,
    ) -> None:
        if spec.observation_dtype != torch.uint8:
            raise UserError("frame_replay stores images of bytes; take 'replay' for other observations")
        self._frame_stack, self._n_step, self._num_envs = spec.frame_stack, spec.n_step, spec.environments
        self._num_slots = capacity // self._num_envs
        if self._num_slots < self._frame_stack + self._n_step + 1:
            least = (self._frame_stack + self._n_step + 1) * self._num_envs
            raise UserError(
                f"capacity {capacity:,} is too small for {self._num_envs} environments; set {least:,} or more"
            )
        # Arrays have a row for each index: slot * E + environment.
        size = self._num_slots * self._num_envs
        shape = spec.observation_shape[1:] if self._frame_stack > 1 else spec.observation_shape
        self._frames = allocate(size, shape, torch.uint8, spec.device if on_device else None)
        super().__init__(spec, batch_size, capacity, size)
        self._action, self._reward = np.zeros(size, np.int32), np.zeros(size, np.float32)
        self._terminated, self._ended, self._is_transition = (np.zeros(size, bool) for _ in range(3))
        self._episode_step = np.zeros(size, np.uint8)  # steps since the episode began, up to 255
        self._masks = np.zeros((size, spec.actions), bool) if spec.action_masks else None
        self._first_stacks: dict[int, Tensor] = {}  # index of an episode's first step -> its older frames (S - 1, ...)
        self._starts = np.ones(self._num_envs, bool)  # whose next slot is an episode's first
        self._added = 0  # slots

    def __len__(self) -> int:
        """Steps among which is sampled, also those by which an environment was reset; 0 if they are all such."""
        slots = range(self._oldest(), self._newest() + 1)
        if len(slots) <= 2 * self._n_step and not any(self._is_transition[self._indices(slot)].any() for slot in slots):
            return 0  # a resume in the first steps discards them all
        return len(slots) * self._num_envs

    def _newest(self) -> int:
        """The last slot, counted from the first ever, whose n steps and next observation are all there."""
        return self._added - 1 - self._n_step

    def _oldest(self) -> int:
        """The first slot of which the whole stack is there."""
        return self._added - self._num_slots + self._frame_stack - 1 if self._added > self._num_slots else 0

    def _indices(self, slot: int) -> Indices:
        """Those of all environments at a slot, counted from the first ever."""
        return slot % self._num_slots * self._num_envs + np.arange(self._num_envs)

    def add(self, step: EnvStep) -> None:
        """Store a step over the oldest; its `next_observation` comes with the next step."""
        indices, previous = self._indices(self._added), self._indices(self._added - 1)
        for index in indices.tolist() if self._first_stacks else ():
            self._first_stacks.pop(index, None)
        frames = step.observation[:, -1] if self._frame_stack > 1 else step.observation
        self._frames[indices[0] : indices[-1] + 1].copy_(torch.from_numpy(frames))
        self._action[indices], self._reward[indices] = step.action, self.spec.scale_and_clip(step.reward)
        self._terminated[indices], self._ended[indices] = step.terminated, step.terminated | step.truncated
        self._is_transition[indices] = step.is_transition
        self._episode_step[indices] = np.where(self._starts, 0, np.minimum(self._episode_step[previous], 254) + 1)
        if self._masks is not None:
            self._masks[indices] = step.action_mask
        if self._frame_stack > 1:
            for env in np.flatnonzero(self._starts).tolist():
                older_frames = torch.tensor(step.observation[env, :-1], device=self._frames.device)
                self._first_stacks[int(indices[env])] = older_frames
        self._starts = ~step.is_transition  # the reset's observation comes next
        self._added += 1
        if self._priorities is not None:
            self._priorities.remove(indices)
            for slot in range(max(0, self._added - self._num_slots), self._oldest()):  # their stacks have lost frames
                self._priorities.remove(self._indices(slot))
            if self._newest() >= self._oldest():
                complete = self._indices(self._newest())
                self._priorities.add(complete[self._is_transition[complete]])

    def _sample_uniform(self, batch_size: int, generator: torch.Generator) -> Indices:
        """Steps by which an environment was reset are sampled again."""
        first, count = self._oldest() * self._num_envs, len(self)
        batches: list[Indices] = []
        while (missing := batch_size - sum(map(len, batches))) > 0:
            numbers = torch.randint(count, (missing,), generator=generator).numpy()
            indices = (first + numbers) % len(self._action)
            batches.append(indices[self._is_transition[indices]])
        return np.concatenate(batches)

    def _gather(self, indices: Indices, weight: Tensor | None) -> Transitions:
        size = len(self._action)
        steps = (indices[:, None] + np.arange(self._n_step) * self._num_envs) % size  # (B, n)
        ended = np.logical_or.accumulate(self._ended[steps[:, :-1]], 1)
        is_included = np.concatenate([np.ones((len(indices), 1), bool), ~ended], 1)  # (B, n) up to the episode's end
        discounts = self.spec.discount ** np.arange(self._n_step + 1)
        reward = (self._reward[steps] * discounts[:-1] * is_included).sum(1, dtype=np.float32)
        length = is_included.sum(1)
        last = (indices + (length - 1) * self._num_envs) % size
        next_indices = (last + self._num_envs) % size
        discount = (discounts[length] * ~self._terminated[last]).astype(np.float32)
        return Transitions(
            self._observations(indices),
            torch.from_numpy(self._action[indices].astype(np.int64)),
            torch.from_numpy(reward),
            self._observations(next_indices),
            torch.from_numpy(discount),
            None if self._masks is None else torch.from_numpy(self._masks[indices]),
            None if self._masks is None else torch.from_numpy(self._masks[next_indices]),
            weight,
            torch.from_numpy(indices),
        )

    def _observations(self, indices: Indices) -> Tensor:
        """(B, S, ...) frames up to those at `indices`, or (B, ...) where they are not stacked."""
        if self._frame_stack == 1:
            return self._gather_frames(indices)
        size, episode_step = len(self._action), self._episode_step[indices]
        back = np.minimum(np.arange(self._frame_stack - 1, -1, -1), episode_step[:, None])  # (B, S) within the episode
        stacks = self._gather_frames((indices[:, None] - back * self._num_envs) % size)
        for row in np.flatnonzero(episode_step < self._frame_stack - 1).tolist():
            step = int(episode_step[row])
            first_stack = self._first_stacks[int((indices[row] - step * self._num_envs) % size)]
            stacks[row, : self._frame_stack - 1 - step] = first_stack[step:]
        return stacks

    def _gather_frames(self, indices: Indices) -> Tensor:
        """The frames at `indices` (...), (..., H, W)."""
        flat = torch.from_numpy(indices).to(self._frames.device).flatten()
        return self._frames.index_select(0, flat).view(*indices.shape, *self._frames.shape[1:])

    def discard_pending(self, environments: list[int]) -> None:
        """Discard the steps whose n-step transition is not complete."""
        for slot in range(max(0, self._added - self._n_step), self._added):
            self._is_transition[self._indices(slot)[environments]] = False
        self._starts[environments] = True

    def state_dict(self) -> dict[str, Any]:
        """The rows that are filled, in place unless they are on another device, and how many slots were ever added."""
        count = min(self._added, self._num_slots) * self._num_envs
        return {
            **super().state_dict(),
            **{name: first_rows(array, count) for name, array in self._arrays().items()},
            "frames": first_rows(self._frames[:count].cpu().numpy(), count),
            "first_stacks": {index: frames.cpu() for index, frames in self._first_stacks.items()},
            "starts": torch.from_numpy(self._starts.copy()),
            "added": self._added,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the buffer. Raises UserError if the state is of another capacity."""
        super().load_state_dict(state)
        self._added, self._starts = state["added"], state["starts"].numpy().copy()
        for name, array in self._arrays().items():
            array[: len(state[name])] = state[name].numpy()
        self._frames[: len(state["frames"])].copy_(state["frames"])
        device = self._frames.device
        self._first_stacks = {index: frames.to(device, copy=True) for index, frames in state["first_stacks"].items()}

    def _arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        names = ("action", "reward", "episode_step", "terminated", "ended", "is_transition", "masks")
        arrays = {name: getattr(self, f"_{name}") for name in names}
        return {name: array for name, array in arrays.items() if array is not None}
