"""A trained agent in its environment. Knows no task and no replay."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from torch import nn

from aibig.config.registry import PythonObject, environments
from aibig.envs.wrappers import MASK
from aibig.errors import UserError
from aibig.layers.modes import evaluating
from aibig.metrics.greedy_policy import evaluation_policy
from aibig.pretrained.model_folder import inference_device

FRAMES_AT_MOST = 400


@dataclass
class Film:
    """An episode to look at: frames (height, width, 3), how long it takes by its environment's clock, what came."""

    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    seconds: float = 0.0
    total: float = 0.0  # the return
    length: int = 0  # in env steps


class Player:
    """A Q-network and the environment that it was trained in, made by its registered name.

    facts: what model.json holds.
    """

    def __init__(self, model: nn.Module, facts: dict[str, Any]) -> None:
        self.device = inference_device()
        self.model = model.to(self.device)
        self.env: dict[str, Any] | None = facts["env"]  # name and settings
        self.epsilon: float = facts.get("epsilon", 0.0)  # of random actions, as in the run's evaluations

    def play(
        self, env: Any = None, *, episodes: int = 10, seed: int = 0, render: str | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Episodes as the run evaluates, with seeds from `seed`: returns and lengths in env steps, (episodes,) each.

        env: an environment, its class or a function that returns one, in place of the one it was trained in; needed
        where that was such an object. render: gymnasium's render_mode, such as "human"; it then shows itself.

        Raises UserError if a package that showing takes is missing.
        """
        pool = self._pool(env, **({"render_mode": render} if render else {}))
        try:
            with evaluating(self.model):
                policy = evaluation_policy(self.model, self.device, pool.actions, self.epsilon, seed)
                return pool.run_episodes(policy, range(seed, seed + episodes), at_once=1 if render else None)
        except gymnasium.error.DependencyNotInstalled as error:
            raise UserError(f"render {render!r} needs a package that is not installed: {error}") from None
        finally:
            pool.close()

    def film(self, env: Any = None, *, seed: int = 0, whole: bool = False) -> Film:
        """An episode as its environment draws it; unless `whole`, of a long one each second, fourth, ... frame.

        env: as for `play`.

        Raises UserError if the environment draws nothing, or a package that drawing takes is missing.
        """
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # it would greet on standard output
        if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & {*os.environ}:
            os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # it would miss a screen, which nothing is shown on
        pool = self._pool(env, render_mode="rgb_array")
        env, film, every = pool.make(), Film(), 1
        policy = evaluation_policy(self.model, self.device, pool.actions, self.epsilon, seed)
        try:
            observation, info = env.reset(seed=seed)
            film.frames.append(draw(env))
            ended = False
            with evaluating(self.model):
                while not ended:
                    seen = np.asarray(observation, pool.observation_dtype)[None]
                    mask = np.asarray(info[MASK], bool)[None] if MASK in info else None
                    action = int(policy(seen, mask)[0])
                    observation, reward, terminated, truncated, info = env.step(action)
                    film.total, film.length = film.total + float(reward), film.length + 1
                    ended = terminated or truncated
                    if film.length % every == 0 or ended:
                        film.frames.append(draw(env))
                    if not whole and len(film.frames) > FRAMES_AT_MOST and not ended:
                        del film.frames[1::2]
                        every *= 2
            film.seconds = film.length / env.metadata.get("render_fps", 30)
        except gymnasium.error.Error as error:
            raise UserError(f"the environment can't be drawn: {error}") from None
        finally:
            env.close()
            pool.close()
        return film

    def _pool(self, given: Any, **settings: Any) -> Any:
        """One environment. Raises UserError if it was an object, and is not `given` again."""
        if self.env is None:
            raise UserError("the model was trained in an environment that was made by hand, not from a config")
        settings = {**self.env["settings"], "count": 1, **settings}
        if given is None:
            return environments.create(self.env["name"], **settings)
        known = environments.settings(PythonObject(given))
        return environments.create(
            PythonObject(given), **{name: one for name, one in settings.items() if name in known}
        )


def draw(env: gymnasium.Env[Any, Any]) -> NDArray[np.uint8]:
    """The environment now, (height, width, 3). Raises UserError if it gives no picture."""
    picture: Any = env.render()
    if not isinstance(picture, np.ndarray) or picture.ndim != 3:
        raise UserError("the environment draws no pictures (render_mode rgb_array)")
    return picture.astype(np.uint8)
