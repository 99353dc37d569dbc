"""When an agent acts at random, and how. Knows no model and no environment.

E environments, A actions.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from aibig.errors import UserError

EpsilonSchedule = Literal["linear", "exponential"]
MAX_DURATION = 1_000  # env steps that a random action lasts at most


class Exploration:
    """Epsilon-greedy exploration, temporally extended if a random action lasts (arXiv 2006.01782, section 4).

    Args:
        environments: how many there are, E.
        actions: how many there are, A.
        start: epsilon, the probability of a random action, at first.
        end: epsilon at last.
        env_steps: over which epsilon falls.
        schedule: "linear", in a straight line, or "exponential", by a constant factor.
        duration_exponent: a random action lasts n env steps with a probability in proportion to n to the power of
            minus this, or until the episode ends; None: one step.

    Raises:
        UserError: an exponential schedule would have to reach 0.
    """

    def __init__(
        self,
        environments: int,
        actions: int,
        *,
        start: float,
        end: float,
        env_steps: int,
        schedule: EpsilonSchedule,
        duration_exponent: float | None,
    ) -> None:
        if schedule == "exponential" and not (start and end):
            raise UserError("epsilon_schedule: exponential never reaches 0; set both ends above 0, or take linear")
        self.actions, self.start, self.end = actions, start, end
        self.env_steps, self.schedule = env_steps, schedule
        self.cumulative_weights: Tensor | None = None  # of the durations 1, 2, ...
        if duration_exponent is not None:
            durations = torch.arange(1.0, MAX_DURATION + 1, dtype=torch.float64)
            self.cumulative_weights = durations.pow(-duration_exponent).cumsum(0)
        # the random action that lasts in each environment, and the steps that are left of it
        self.lasting_actions, self.steps_left = (torch.zeros(environments, dtype=torch.int64) for _ in range(2))

    def epsilon(self, env_steps: int) -> float:
        """The probability of a random action.

        Args:
            env_steps: taken so far.
        """
        progress = min(1.0, env_steps / self.env_steps)
        if self.schedule == "exponential":
            return self.start * (self.end / self.start) ** progress
        return self.start + progress * (self.end - self.start)

    def choose(self, epsilon: float, mask: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Decide where to act at random, and how.

        Args:
            epsilon: probability of a random action, or of its beginning if it lasts.
            mask: the actions that are allowed, (E, A); None for all.
            generator: draws, on the CPU.

        Returns:
            Whether to act at random, (E,), and by which action, (E,).
        """
        count = len(self.lasting_actions)
        explores = torch.rand(count, generator=generator) < epsilon
        if mask is None:
            actions = torch.randint(self.actions, (count,), generator=generator)
        else:
            candidates = mask | ~mask.any(1, keepdim=True)  # where an episode has ended none may be allowed
            actions = torch.multinomial(candidates.float(), 1, generator=generator).squeeze(1)
        if self.cumulative_weights is None:
            return explores, actions
        if mask is not None:  # what is no longer allowed ends
            is_allowed = mask.gather(1, self.lasting_actions.unsqueeze(1)).squeeze(1)
            self.steps_left = torch.where(is_allowed, self.steps_left, 0)
        weights = torch.rand(count, generator=generator, dtype=torch.float64) * self.cumulative_weights[-1]
        durations = torch.searchsorted(self.cumulative_weights, weights) + 1
        begins = explores & (self.steps_left == 0)
        self.lasting_actions = torch.where(begins, actions, self.lasting_actions)
        self.steps_left = torch.where(begins, durations, self.steps_left)
        lasts = self.steps_left > 0
        self.steps_left = torch.where(lasts, self.steps_left - 1, 0)
        return lasts, self.lasting_actions

    def end_of_episode(self, environments: list[int]) -> None:
        """End lasting actions together with the episode.

        Args:
            environments: whose episode has ended.
        """
        if self.cumulative_weights is not None and environments:  # a new tensor: saved states stay as they are
            self.steps_left = self.steps_left.index_fill(0, torch.tensor(environments), 0)

    def state_dict(self) -> dict[str, Any]:
        """The actions that last."""
        return {"lasting_actions": self.lasting_actions, "steps_left": self.steps_left}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Args:
            state: what `state_dict` returned.
        """
        self.lasting_actions, self.steps_left = state["lasting_actions"].clone(), state["steps_left"].clone()
