"""A trained agent in its environment. Knows no task and no replay."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from torch import nn

from aibig.envs.episodes import run_episodes
from aibig.errors import UserError
from aibig.inference.model_folder import inference_device
from aibig.inference.modes import evaluating
from aibig.inference.policy import greedy_actions
from aibig.registry import environments


class Player:
    """A Q-network and the environment that it was trained in, made by its registered name.

    facts: what model.json holds.
    """

    def __init__(self, model: nn.Module, facts: dict[str, Any]) -> None:
        if facts["env"] is None:
            raise UserError("the model was trained in an environment without a name; register it to play in it")
        self.device = inference_device()
        self.model = model.to(self.device)
        self.env: dict[str, Any] = facts["env"]

    def play(
        self, *, episodes: int = 10, seed: int = 0, render: str | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Greedy episodes with seeds from `seed`: returns and lengths in env steps, (episodes,) each.

        render: gymnasium's render_mode, such as "human"; the environment then shows itself.

        Raises UserError if a package that showing takes is missing.
        """
        settings = {**self.env["settings"], "count": 1, **({"render_mode": render} if render else {})}
        pool = environments.create(self.env["name"], **settings)
        try:
            with evaluating(self.model):
                return run_episodes(
                    pool.make,
                    lambda seen: greedy_actions(self.model, seen, self.device),
                    range(seed, seed + episodes),
                    at_once=1 if render else None,
                )
        except gymnasium.error.DependencyNotInstalled as error:
            raise UserError(f"render {render!r} needs a package that is not installed: {error}") from None
