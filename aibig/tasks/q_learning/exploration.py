"""When an agent acts at random, and how. Knows no model and no environment.

E environments, A actions.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from aibig.errors import UserError

Schedule = Literal["linear", "exponential"]
LONGEST = 1_000  # steps that a random action lasts at most


class Exploration:
    """Epsilon-greedy: with probability epsilon a random action, which falls from `start` to `end` over `env_steps`.

    schedule: in a straight line, or by a constant factor. duration_exponent: a random action lasts n steps with a
    probability in proportion to n to the power of minus this, or until the episode ends (arXiv 2006.01782, section 4);
    None: one step.

    Raises UserError for a factor that would have to reach 0.
    """

    def __init__(
        self,
        environments: int,
        actions: int,
        *,
        start: float,
        end: float,
        env_steps: int,
        schedule: Schedule,
        duration_exponent: float | None,
    ) -> None:
        if schedule == "exponential" and not (start and end):
            raise UserError(
                "epsilon_schedule: a constant factor never reaches 0; set both ends above it, or take linear"
            )
        self.actions, self.start, self.end = actions, start, end
        self.env_steps, self.schedule = env_steps, schedule
        self.shares: Tensor | None = None  # of the durations 1, 2, ..., added up
        if duration_exponent is not None:
            self.shares = torch.arange(1.0, LONGEST + 1, dtype=torch.float64).pow(-duration_exponent).cumsum(0)
        self.held, self.left = (torch.zeros(environments, dtype=torch.int64) for _ in range(2))

    def epsilon(self, env_steps: int) -> float:
        """After so many steps."""
        done = min(1.0, env_steps / self.env_steps)
        if self.schedule == "exponential":
            return self.start * (self.end / self.start) ** done
        return self.start + done * (self.end - self.start)

    def choose(self, epsilon: float, mask: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Returns where to act at random (E,), and by which actions (E,); mask: (E, A), those that are allowed."""
        count = len(self.held)
        explores = torch.rand(count, generator=generator) < epsilon
        if mask is None:
            actions = torch.randint(self.actions, (count,), generator=generator)
        else:
            drawable = mask | ~mask.any(1, keepdim=True)  # where an episode has ended none may be allowed
            actions = torch.multinomial(drawable.float(), 1, generator=generator).squeeze(1)
        if self.shares is None:
            return explores, actions
        if mask is not None:  # what is no longer allowed ends
            self.left = torch.where(mask.gather(1, self.held.unsqueeze(1)).squeeze(1), self.left, 0)
        drawn = torch.rand(count, generator=generator, dtype=torch.float64) * self.shares[-1]
        begins = explores & (self.left == 0)
        self.held = torch.where(begins, actions, self.held)
        self.left = torch.where(begins, torch.searchsorted(self.shares, drawn) + 1, self.left)
        lasting = self.left > 0
        self.left = torch.where(lasting, self.left - 1, 0)
        return lasting, self.held

    def end_of_episode(self, environments: list[int]) -> None:
        """Where one has ended, a lasting action ends too."""
        if self.shares is not None and environments:
            self.left = self.left.index_fill(0, torch.tensor(environments), 0)  # a state that was given stays so

    def state_dict(self) -> dict[str, Any]:
        """What lasts."""
        return {"held": self.held, "left": self.left}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.held, self.left = state["held"].clone(), state["left"].clone()
