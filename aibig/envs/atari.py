"""Atari games through ale-py's own vector environment, preprocessed as usual. Knows no model and no replay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import gymnasium
import numpy as np

from aibig.config.settings import Fraction, PositiveInt
from aibig.envs.episodes import MAX_ENVS, EpisodeEnvs, VectorEpisodes
from aibig.envs.gymnasium_vectors import ReplayRestoredVectorEnv, VectorEnv
from aibig.envs.pool import EnvPool
from aibig.envs.wrappers import Env
from aibig.errors import UserError

RenderMode = Literal["rgb_array", "human"]


class AtariPool(EnvPool):
    """Atari games that are stepped together; an observation is a stack of grey images (Mnih et al. 2015, Methods).

    Each image is the pixel-wise maximum of the last two of the skipped frames. Rewards are clipped, and a lost life
    ends an episode, in training alone; the other settings hold in evaluations too.

    Args:
        make: a function that returns the id of the game, such as "ALE/Pong-v5".
        count: games that are stepped together.
        repeat_action_probability: probability that a frame repeats the last action instead of the new one ("sticky
            actions": 0.25 recommended by arXiv 1709.06009, section 5.2; 0 in 2015).
        reward_clipping: clip rewards to -1, 0 and 1 in training.
        episodic_life: in training a lost life ends the episode, and the next one starts a new game, so later lives
            are not seen.
        noop_max: up to so many frames pass at random when a game starts.
        frame_skip: frames that an action lasts.
        frame_stack: latest images that make an observation.
        size: height and width of an image, in pixels.
        max_frames: frames after which an episode is truncated.
        full_action_space: all 18 actions instead of those that do something in the game.
        threads: that run the games.
        render_mode: "human" shows the game in a window; "rgb_array" renders it in colour.

    Raises:
        UserError: the game is not installed, or can't be made with these settings.
    """

    def __init__(
        self,
        make: Callable[[], str],
        *,
        count: PositiveInt = 8,
        repeat_action_probability: Fraction = 0.25,
        reward_clipping: bool = True,
        episodic_life: bool = False,
        noop_max: PositiveInt = 30,
        frame_skip: PositiveInt = 4,
        frame_stack: PositiveInt = 4,
        size: PositiveInt = 84,
        max_frames: PositiveInt = 108_000,
        full_action_space: bool = False,
        threads: PositiveInt = 1,
        render_mode: RenderMode | None = None,
    ) -> None:
        self.name, self.count, self.frame_stack, self.threads = make(), count, frame_stack, threads
        self.render_mode = render_mode
        self._settings: dict[str, Any] = {
            "repeat_action_probability": repeat_action_probability,
            "noop_max": noop_max,
            "frameskip": frame_skip,
            "stack_num": frame_stack,
            "img_height": size,
            "img_width": size,
            "max_num_frames_per_episode": max_frames,
            "full_action_space": full_action_space,
        }
        env = self._make_games(count, reward_clipping=reward_clipping, episodic_life=episodic_life)
        self.has_action_masks = False
        self._set_spaces(env.single_action_space, env.single_observation_space, np.dtype(np.uint8))
        self._vector = ReplayRestoredVectorEnv(env, self.observation_dtype)

    def make_env(self) -> Env:  # type: ignore[override]
        """One game to render, with unclipped rewards."""
        game = RenderedGame(self._make_games, self._settings["frameskip"])
        return gymnasium.wrappers.HumanRendering(game) if self.render_mode == "human" else game

    def _make_games(self, num_envs: int, **settings: Any) -> VectorEnv:
        settings = {"num_threads": min(self.threads, num_envs), **self._settings, **settings}
        try:
            return gymnasium.make_vec(self.name, num_envs, "vector_entry_point", **settings)
        except (gymnasium.error.Error, AssertionError, RuntimeError) as error:
            raise UserError(f"the game {self.name!r} can't be made: {error}") from None

    def _episode_envs(self, episodes: int, num_envs: int | None) -> EpisodeEnvs:
        if self.render_mode == "human":
            return super()._episode_envs(episodes, num_envs)
        games = self._make_games(min(episodes, num_envs or MAX_ENVS), reward_clipping=False, episodic_life=False)
        return VectorEpisodes(games, self.observation_dtype, is_seeded=True)


class RenderedGame(gymnasium.Env[Any, Any]):
    """A game that can be rendered: a second one beside it runs the same in colour and in its original size.

    Args:
        make_games: returns a vector environment of so many games with these settings.
        frame_skip: frames that an action lasts.
    """

    def __init__(self, make_games: Callable[..., VectorEnv], frame_skip: int) -> None:
        settings = {"reward_clipping": False, "episodic_life": False}
        self._game = make_games(1, **settings)
        self._color_game = make_games(1, **settings, grayscale=False, stack_num=1, img_height=210, img_width=160)
        self.observation_space = self._game.single_observation_space
        self.action_space = self._game.single_action_space
        self.render_mode, self.metadata = "rgb_array", {"render_modes": ["rgb_array"], "render_fps": 60 // frame_skip}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start a game.

        Args:
            seed: of the game; None: a random one.
            options: not used.
        """
        seeds: Any = np.array([np.random.default_rng().integers(2**31) if seed is None else seed])
        self._frame = self._color_game.reset(seed=seeds)[0][0, 0]
        return self._game.reset(seed=seeds)[0][0], {}

    def step(self, action: Any) -> Any:
        """Step the game.

        Args:
            action: the number of the action.
        """
        actions = np.array([action], np.int64)
        self._frame = self._color_game.step(actions)[0][0, 0]
        observation, reward, terminated, truncated, _ = self._game.step(actions)
        return observation[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}

    def render(self) -> Any:
        """The screen, (210, 160, 3) bytes."""
        return self._frame

    def close(self) -> None:
        """Close both."""
        self._game.close()
        self._color_game.close()
