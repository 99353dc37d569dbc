"""A trained agent in its environment. Knows no task and no replay."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from torch import nn

from aibig.config.registry import PythonObject, environments
from aibig.envs.episodes import SyncEpisodes, run_episodes
from aibig.envs.wrappers import Env
from aibig.errors import UserError
from aibig.layers.utils.modes import eval_mode
from aibig.metrics.greedy_policy import evaluation_policy
from aibig.pretrained.model_folder import inference_device

MAX_FRAMES = 400


@dataclass
class EpisodeRecording:
    """A rendered episode.

    Args:
        frames: rendered images, (height, width, 3) bytes each.
        seconds: duration of the episode by the environment's frame rate.
        episode_return: sum of its rewards.
        length: in env steps.
    """

    frames: list[NDArray[np.uint8]]
    seconds: float
    episode_return: float
    length: int


class Agent:
    """A Q-network with the environment that it was trained in.

    Args:
        model: the Q-network.
        inference_config: contents of model.json: name and settings of the environment, and epsilon.
    """

    def __init__(self, model: nn.Module, inference_config: dict[str, Any]) -> None:
        self.device = inference_device()
        self.model = model.to(self.device)
        self.env: dict[str, Any] | None = inference_config["env"]  # name and settings
        self.epsilon: float = inference_config.get("epsilon", 0.0)  # of random actions, as in the run's evaluations

    def play(
        self, env: Any = None, *, episodes: int = 10, seed: int = 0, render: str | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Play episodes as in the run's evaluations.

        Args:
            env: an environment, its class or a function that returns one; None: the environment of the training, if the
                config named it.
            episodes: number of episodes.
            seed: seed of the first episode; it increases by 1 in each episode.
            render: gymnasium's render_mode, such as "human", which shows a window.

        Returns:
            Returns (episodes,), and lengths (episodes,) in env steps.

        Raises:
            UserError: a package that rendering needs is not installed.
        """
        pool = self._pool(env, **({"render_mode": render} if render else {}))
        try:
            with eval_mode(self.model):
                policy = evaluation_policy(self.model, self.device, pool.actions, self.epsilon, seed)
                return pool.run_episodes(policy, range(seed, seed + episodes), num_envs=1 if render else None)
        except gymnasium.error.DependencyNotInstalled as error:
            raise UserError(f"render {render!r} needs a package that is not installed: {error}") from None
        finally:
            pool.close()

    def record_episode(self, env: Any = None, *, seed: int = 0, all_frames: bool = False) -> EpisodeRecording:
        """Play an episode and record what its environment renders.

        Args:
            env: as for `play`.
            seed: seed of the episode.
            all_frames: keep all frames; otherwise every second, fourth, ... frame of a long episode.

        Raises:
            UserError: the environment renders no images, or a package that rendering needs is not installed.
        """
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # pygame prints a greeting on standard output
        if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & {*os.environ}:
            os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # SDL needs no screen then
        pool = self._pool(env, render_mode="rgb_array")
        try:
            recorder = FrameRecorder(pool.make_env(), None if all_frames else MAX_FRAMES)
            envs = SyncEpisodes(lambda: recorder, 1, pool.observation_dtype)
            policy = evaluation_policy(self.model, self.device, pool.actions, self.epsilon, seed)
            with eval_mode(self.model):
                returns, lengths = run_episodes(envs, policy, [seed])
        except gymnasium.error.Error as error:
            raise UserError(f"the environment can't be rendered: {error}") from None
        finally:
            pool.close()
        length, fps = int(lengths[0]), recorder.metadata.get("render_fps", 30)
        return EpisodeRecording(recorder.frames, length / fps, float(returns[0]), length)

    def _pool(self, env: Any, **settings: Any) -> Any:
        """A pool of one environment. Raises UserError if that of the training was an object and `env` is None."""
        if self.env is None:
            raise UserError("the model was trained in an environment that was made by hand, not from a config")
        settings = {**self.env["settings"], "count": 1, **settings}
        if env is None:
            return environments.create(self.env["name"], **settings)
        known = environments.settings(PythonObject(env))
        settings = {name: value for name, value in settings.items() if name in known}
        return environments.create(PythonObject(env), **settings)


class FrameRecorder(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Keeps the frames that an environment renders in an episode.

    Args:
        env: environment with render_mode "rgb_array".
        max_frames: number of frames above which every second one is dropped, and only every second one is rendered;
            None: all frames are kept.

    Raises:
        UserError: the environment renders no images.
    """

    def __init__(self, env: Env, max_frames: int | None) -> None:
        super().__init__(env)
        self.frames: list[NDArray[np.uint8]] = []
        self._max_frames, self._interval, self._length = max_frames, 1, 0

    def reset(self, **settings: Any) -> Any:
        """Start the episode.

        Args:
            settings: seed and options.
        """
        result = self.env.reset(**settings)
        self._record()
        return result

    def step(self, action: Any) -> Any:
        """Step the environment.

        Args:
            action: the action to take.
        """
        result = self.env.step(action)
        ended = result[2] or result[3]
        self._length += 1
        if self._length % self._interval == 0 or ended:
            self._record()
        if self._max_frames is not None and len(self.frames) > self._max_frames and not ended:
            del self.frames[1::2]
            self._interval *= 2
        return result

    def _record(self) -> None:
        frame: Any = self.env.render()
        if not isinstance(frame, np.ndarray) or frame.ndim != 3:
            raise UserError("the environment renders no images (render_mode rgb_array)")
        self.frames.append(frame.astype(np.uint8))
