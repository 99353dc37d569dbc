"""Atari games through ale-py's own vector environment, preprocessed as usual. Knows no model and no replay.

E environments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import gymnasium
import numpy as np
from numpy.typing import NDArray

from aibig.config.settings import Fraction, PositiveInt
from aibig.envs.copies import Vector
from aibig.envs.episodes import MAX_ENVIRONMENTS, Policy
from aibig.envs.pool import EnvPool
from aibig.envs.vectors import SeededVector, VectorEnv
from aibig.envs.wrappers import Env
from aibig.errors import UserError

Rendered = Literal["rgb_array", "human"]


class AtariPool(EnvPool):
    """`count` games, each a stack of `frame_stack` grey pictures of size x size, the larger of the last two of
    `frame_skip` frames (Mnih et al. 2015, Methods).

    Both in training and evaluation: repeat_action_probability, of the last action in place of the new one (0.25 as
    recommended by arXiv 1709.06009, section 5.2; 0 as in 2015); noop_max, up to as many frames pass first; max_frames
    of an episode; full_action_space, all 18 rather than those that do something. In training alone: reward_clipping,
    to -1, 0 and 1; episodic_life, a lost life ends the episode, and the next begins a new game, so that no later life
    is seen. threads: that play the games.

    Raises UserError where the game is not there.
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
        render_mode: Rendered | None = None,
    ) -> None:
        self.name, self.count, self.frame_stack, self.threads = make(), count, frame_stack, threads
        self.render_mode = render_mode
        self._game: dict[str, Any] = {
            "repeat_action_probability": repeat_action_probability,
            "noop_max": noop_max,
            "frameskip": frame_skip,
            "stack_num": frame_stack,
            "img_height": size,
            "img_width": size,
            "max_num_frames_per_episode": max_frames,
            "full_action_space": full_action_space,
        }
        env = self._games(count, reward_clipping=reward_clipping, episodic_life=episodic_life)
        self.has_action_masks = False
        self._describe(env.single_action_space, env.single_observation_space, np.dtype(np.uint8))
        self._vector: Vector = SeededVector(env, np.dtype(np.uint8))

    def make(self) -> Env:  # type: ignore[override]
        """One game to look at, with rewards as they are."""
        game = OneGame(self._games, self._game["frameskip"])
        return gymnasium.wrappers.HumanRendering(game) if self.render_mode == "human" else game

    def _games(self, count: int, **settings: Any) -> VectorEnv:
        settings = {"num_threads": min(self.threads, count), **self._game, **settings}
        try:
            return gymnasium.make_vec(self.name, count, "vector_entry_point", **settings)
        except (gymnasium.error.Error, AssertionError, RuntimeError) as error:
            raise UserError(f"the game {self.name!r} can't be played: {error}") from None

    def run_episodes(
        self, policy: Policy, seeds: Sequence[int], at_once: int | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """One whole game for each of `seeds`, with rewards as they are: returns (games,), and lengths in env steps."""
        if self.render_mode == "human":
            return super().run_episodes(policy, seeds, at_once)
        count = min(len(seeds), at_once or MAX_ENVIRONMENTS)
        env = self._games(count, reward_clipping=False, episodic_life=False)
        returns, lengths = np.zeros(len(seeds)), np.zeros(len(seeds), np.int64)
        playing = np.arange(count)  # which game each environment plays, -1 for none any more
        numbers: Any = np.array(seeds)  # gymnasium declares one for all; this environment takes one for each
        observation, _ = env.reset(seed=numbers[:count])
        following = count
        while (playing >= 0).any():
            actions = policy(observation, None)
            observation, reward, terminated, truncated, _ = env.step(np.asarray(actions, np.int64))
            at = playing >= 0
            returns[playing[at]] += reward[at]
            lengths[playing[at]] += 1
            over = at & (terminated | truncated)
            if over.any():
                fresh = np.zeros(count, bool)
                for index in np.flatnonzero(over).tolist():
                    fresh[index] = following < len(seeds)
                    playing[index] = following if fresh[index] else -1
                    following += int(fresh[index])
                if fresh.any():
                    observation, _ = env.reset(seed=numbers[playing[fresh]], options={"reset_mask": fresh})
        env.close()
        return returns, lengths


class OneGame(gymnasium.Env[Any, Any]):
    """A game to look at: beside the one that is played runs the same in colour, of its original size.

    games: makes a vector environment of so many games, with these settings.
    """

    def __init__(self, games: Callable[..., VectorEnv], frame_skip: int) -> None:
        whole = {"reward_clipping": False, "episodic_life": False}
        self._played = games(1, **whole)
        self._shown = games(1, **whole, grayscale=False, stack_num=1, img_height=210, img_width=160)
        self.observation_space, self.action_space = (
            self._played.single_observation_space,
            self._played.single_action_space,
        )
        self.render_mode, self.metadata = "rgb_array", {"render_modes": ["rgb_array"], "render_fps": 60 // frame_skip}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Both from the same seed."""
        seeds: Any = np.array([np.random.default_rng().integers(2**31) if seed is None else seed])
        self._picture = self._shown.reset(seed=seeds)[0][0, 0]
        return self._played.reset(seed=seeds)[0][0], {}

    def step(self, action: Any) -> Any:
        """Both by the same action."""
        actions = np.array([action], np.int64)
        self._picture = self._shown.step(actions)[0][0, 0]
        observation, reward, terminated, truncated, _ = self._played.step(actions)
        return observation[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}

    def render(self) -> Any:
        """The screen, (210, 160, 3)."""
        return self._picture

    def close(self) -> None:
        """Both."""
        self._played.close()
        self._shown.close()
