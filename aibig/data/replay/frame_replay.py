"""The latest steps of an agent that sees pictures, each picture kept once. Knows no environment and no model.

B transitions a batch, E environments, S frames of a stack, H and W their height and width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aibig.config.settings import PositiveInt
from aibig.data.replay.base import EnvStep, ReplaySpec, Transitions, check_capacity, filled, reserved
from aibig.data.replay.priorities import Priorities, importance_weights
from aibig.errors import UserError

Places = NDArray[np.int64]  # flat: slot * E + environment


class FrameReplay:
    """A ring of slots, one for each time, in which every environment has its newest frame, action and reward.

    What an episode ends with has a slot too, since an environment is reset only by the step after; so stacks, next
    observations and the rewards of n steps are found by index when a transition is drawn. Of an episode's first
    observation the whole stack is kept, however the environment filled it.

    capacity: steps kept over all environments; they take capacity * (bytes of a frame + 12), 7.1 GB for a million of
    84 x 84, and some more for first observations. batch_size: transitions of a micro-batch over all ranks.
    on_device: frames lie in the memory of the device that learns, so that a batch is gathered there.

    Raises UserError for observations that are no bytes, a capacity that is too small for one step, and one for which
    no memory can be reserved.
    """

    is_fixed = False

    def __init__(
        self,
        spec: ReplaySpec,
        *,
        batch_size: PositiveInt = 32,
        capacity: PositiveInt = 100_000,
        on_device: bool = False,
    ) -> None:
        if spec.observation_dtype != torch.uint8:
            raise UserError("frame_replay keeps pictures of bytes; take 'replay' for other observations")
        self.batch_size, self.capacity, self.spec = batch_size, capacity, spec
        self._stack, self._steps, self._envs = spec.frame_stack, spec.n_step, spec.environments
        self._slots = capacity // self._envs
        if self._slots < self._stack + self._steps + 1:
            least = (self._stack + self._steps + 1) * self._envs
            raise UserError(f"capacity {capacity:,} is too small for {self._envs} environments; set {least:,} or more")
        shape = spec.observation_shape[1:] if self._stack > 1 else spec.observation_shape
        cells = (self._slots * self._envs,)
        self._frames = reserved(cells[0], shape, torch.uint8, spec.device if on_device else None)
        self._action, self._reward = np.zeros(cells, np.int32), np.zeros(cells, np.float32)
        self._terminated, self._ended, self._is_transition = (np.zeros(cells, bool) for _ in range(3))
        self._age = np.zeros(cells, np.uint8)  # steps since the episode began, up to 255
        self._masks = np.zeros((*cells, spec.actions), bool) if spec.action_masks else None
        self._firsts: dict[int, Tensor] = {}  # place -> the older frames (S - 1, ...) of an episode's first observation
        self._begins = np.ones(self._envs, bool)  # whose next slot is an episode's first
        self._added = 0  # slots
        self._priorities = Priorities(len(self._action), spec.priority_exponent) if spec.priority_exponent else None

    def __len__(self) -> int:
        """Steps among which is drawn, those by which an environment was reset among them; 0 if they are all such."""
        slots = range(self._oldest(), self._newest() + 1)
        if len(slots) <= 2 * self._steps and not any(self._is_transition[self._places(slot)].any() for slot in slots):
            return 0  # a resume in the first steps forgets them all
        return len(slots) * self._envs

    def _newest(self) -> int:
        """The last slot, counted from the first ever, whose n steps and what they led to are all there."""
        return self._added - 1 - self._steps

    def _oldest(self) -> int:
        """The first slot of which the whole stack is there."""
        return self._added - self._slots + self._stack - 1 if self._added > self._slots else 0

    def _places(self, slot: int) -> Places:
        """Those of all environments."""
        return slot % self._slots * self._envs + np.arange(self._envs)

    def add(self, steps: EnvStep) -> None:
        """Keep this in the oldest's place; `next_observation` is what comes in the next step."""
        observation, ended = steps.observation, steps.terminated | steps.truncated
        places = self._places(self._added)
        for place in places.tolist() if self._firsts else ():
            self._firsts.pop(place, None)
        older = self._places(self._added - 1)
        newest = torch.from_numpy(observation[:, -1] if self._stack > 1 else observation)
        self._frames[places[0] : places[-1] + 1].copy_(newest)
        self._action[places], self._reward[places] = steps.action, self.spec.rewards(steps.reward)
        self._terminated[places], self._ended[places], self._is_transition[places] = (
            steps.terminated,
            ended,
            steps.is_transition,
        )
        self._age[places] = np.where(self._begins, 0, np.minimum(self._age[older], 254) + 1)
        if self._masks is not None:
            self._masks[places] = steps.action_mask
        if self._stack > 1:
            for env in np.flatnonzero(self._begins).tolist():
                self._firsts[int(places[env])] = torch.tensor(observation[env, :-1], device=self._frames.device)
        self._begins = ~steps.is_transition  # the reset's result comes next
        self._added += 1
        if self._priorities is not None:
            self._priorities.remove(places)
            for slot in range(max(0, self._added - self._slots), self._oldest()):  # their stacks have lost frames
                self._priorities.remove(self._places(slot))
            if self._newest() >= self._oldest():
                ready = self._places(self._newest())
                self._priorities.add(ready[self._is_transition[ready]])

    def sample(self, count: int, generator: torch.Generator, importance_exponent: float = 1.0) -> Transitions:
        """`count` transitions, drawn with replacement."""
        weight = None
        if self._priorities is None:
            places = self._draw(count, generator)
        else:
            places, probabilities = self._priorities.draw(count, generator)
            weight = importance_weights(probabilities, importance_exponent)
        cells = len(self._action)
        ahead = (places[:, None] + np.arange(self._steps) * self._envs) % cells  # (B, n)
        ended = self._ended[ahead]
        reached = np.concatenate([np.ones((count, 1), bool), ~np.logical_or.accumulate(ended[:, :-1], 1)], 1)
        discounts = self.spec.discount ** np.arange(self._steps + 1)
        reward = (self._reward[ahead] * discounts[:-1] * reached).sum(1, dtype=np.float32)
        steps = reached.sum(1)
        last = (places + (steps - 1) * self._envs) % cells
        following = (last + self._envs) % cells
        discount = (discounts[steps] * ~self._terminated[last]).astype(np.float32)
        return Transitions(
            self._observations(places),
            torch.from_numpy(self._action[places].astype(np.int64)),
            torch.from_numpy(reward),
            self._observations(following),
            torch.from_numpy(discount),
            None if self._masks is None else torch.from_numpy(self._masks[places]),
            None if self._masks is None else torch.from_numpy(self._masks[following]),
            weight,
            torch.from_numpy(places),
        )

    def _draw(self, count: int, generator: torch.Generator) -> Places:
        """Places (B,) of steps, drawn uniformly; those by which an environment was reset are drawn again."""
        oldest, slots = self._oldest(), self._newest() - self._oldest() + 1
        drawn: list[Places] = []
        while (missing := count - sum(map(len, drawn))) > 0:
            numbers = torch.randint(slots * self._envs, (missing,), generator=generator).numpy()
            places = (oldest * self._envs + numbers) % len(self._action)
            drawn.append(places[self._is_transition[places]])
        return np.concatenate(drawn)

    def _observations(self, places: Places) -> Tensor:
        """(B, S, ...) frames up to those at `places`, or (B, ...) where they are not stacked."""
        if self._stack == 1:
            return self._gathered(places)
        age = self._age[places]
        back = np.minimum(np.arange(self._stack - 1, -1, -1), age[:, None])  # (B, S) not beyond the episode's first
        stacks = self._gathered((places[:, None] - back * self._envs) % len(self._action))
        for row in np.flatnonzero(age < self._stack - 1).tolist():
            first = self._firsts[int((places[row] - int(age[row]) * self._envs) % len(self._action))]
            stacks[row, : self._stack - 1 - int(age[row])] = first[int(age[row]) :]
        return stacks

    def _gathered(self, places: Places) -> Tensor:
        """The frames at `places` (...), (..., H, W)."""
        index = torch.from_numpy(places).to(self._frames.device)
        return self._frames.index_select(0, index.flatten()).view(*places.shape, *self._frames.shape[1:])

    def update_priorities(self, places: Tensor, errors: Tensor) -> None:
        """The errors (B,) of what was drawn at these places (B,)."""
        if self._priorities is not None:
            self._priorities.update(places, errors)

    def forget(self, environments: list[int]) -> None:
        """Drop the open steps of some environments, whose episodes can't be gone on with."""
        for slot in range(max(0, self._added - self._steps), self._added):
            self._is_transition[self._places(slot)[environments]] = False
        self._begins[environments] = True

    def state_dict(self) -> dict[str, Any]:
        """What is filled, in place unless it lies on another device, and how many slots were ever added."""
        count = min(self._added, self._slots) * self._envs
        return {
            **{name: filled(array, count) for name, array in self._arrays().items()},
            "frames": filled(self._frames[:count].cpu().numpy(), count),
            "firsts": {place: frames.cpu() for place, frames in self._firsts.items()},
            "begins": torch.from_numpy(self._begins.copy()),
            "capacity": len(self._action),
            "added": self._added,
            "priorities": None if self._priorities is None else self._priorities.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave. Raises UserError if that had another capacity."""
        check_capacity(len(self._action), state["capacity"])
        self._added, self._begins = state["added"], state["begins"].numpy().copy()
        for name, array in self._arrays().items():
            array[: len(state[name])] = state[name].numpy()
        self._frames[: len(state["frames"])].copy_(state["frames"])
        self._firsts = {place: frames.to(self._frames.device, copy=True) for place, frames in state["firsts"].items()}
        if self._priorities is not None:
            self._priorities.load_state_dict(state["priorities"])

    def _arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        arrays: dict[str, np.ndarray[Any, Any]] = {
            "action": self._action,
            "reward": self._reward,
            "age": self._age,
        }
        arrays |= {"terminated": self._terminated, "ended": self._ended, "is_transition": self._is_transition}
        return arrays if self._masks is None else arrays | {"masks": self._masks}
