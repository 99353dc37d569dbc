"""Observations as a Q-network takes them: one array, and beside it which actions are allowed. Knows no pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from aibig.errors import UserError

Env = gymnasium.Env[Any, Any]
MASK = "action_mask"  # in `info`, or of a Dict observation


class MaskAside(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Moves the mask of allowed actions from a Dict observation to `info`."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Dict)
        rest = {name: space for name, space in env.observation_space.items() if name != MASK}
        if not rest:
            raise UserError(f"the observations are nothing but {MASK!r}; give something to decide by")
        self._only = next(iter(rest)) if len(rest) == 1 else None
        self.observation_space = spaces.Dict(rest) if self._only is None else rest[self._only]

    def reset(self, **settings: Any) -> Any:
        """As the environment's."""
        observation, info = self.env.reset(**settings)
        return self._without(observation), {**info, MASK: observation[MASK]}

    def step(self, action: Any) -> Any:
        """As the environment's."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._without(observation), reward, terminated, truncated, {**info, MASK: observation[MASK]}

    def _without(self, observation: Any) -> Any:
        if self._only is not None:
            return observation[self._only]
        return {name: value for name, value in observation.items() if name != MASK}


def prepared(env: Env, frame_stack: int = 1) -> Env:
    """`env` with observations that are one array; with a stack, the latest ones along a new first axis.

    What is not a Box is flattened by gymnasium's own wrapper; of a Dict, "action_mask" goes to `info`.

    Raises UserError for actions that are not Discrete, and for observations that can't be one array.
    """
    actions = env.action_space
    if not isinstance(actions, spaces.Discrete):
        raise UserError(f"the actions are {actions}; DQN chooses among Discrete ones, so it can't act here")
    if actions.start != 0:
        raise UserError(f"the actions are numbered from {actions.start}; wrap the environment to number them from 0")
    if isinstance(env.observation_space, spaces.Dict) and MASK in env.observation_space.spaces:
        env = MaskAside(env)
    if not isinstance(env.observation_space, spaces.Box) or not env.observation_space.shape:
        if not env.observation_space.is_np_flattenable:
            raise UserError(
                f"the observations are {env.observation_space}; wrap the environment so that they are a Box"
            )
        env = gymnasium.wrappers.FlattenObservation(env)
    if frame_stack > 1:
        env = gymnasium.wrappers.FrameStackObservation(env, frame_stack)
    return env


def make_env(make: Callable[[], Env], frame_stack: int = 1) -> Env:
    """One environment, `prepared`. Raises UserError where a package that it needs is missing."""
    try:
        env = make()
    except gymnasium.error.DependencyNotInstalled as error:
        raise UserError(f"the environment needs a package that is not installed: {error}") from None
    except (gymnasium.error.Error, TypeError, ImportError) as error:
        raise UserError(f"the environment can't be made: {error}") from None
    except (KeyError, ValueError, AssertionError, AttributeError) as error:  # how environments refuse settings
        if isinstance(error, UserError):
            raise
        what = f"{type(error).__name__}: {error}".rstrip(": ")
        raise UserError(f"the environment can't be made with these settings ({what}); correct them") from error
    if not isinstance(env, gymnasium.Env):
        raise UserError(f"the environment is a {type(env).__name__}, not a gymnasium.Env")
    modes = env.metadata.get("render_modes", [])
    if modes and env.render_mode not in (None, *modes):
        raise UserError(f"render_mode must be one of {', '.join(modes)} in this environment, not {env.render_mode!r}")
    return prepared(env, frame_stack)


def check_conduct(env: Env, name: str) -> tuple[np.dtype[Any], bool]:
    """Try a reset and a step. Returns the type of observations to keep (bytes, else float32), and whether there are
    masks.

    Raises UserError naming what gymnasium's API has otherwise.
    """
    who = f"environment {name!r}: "
    begun = _answer(who, "reset", 2, "(observation, info)", lambda: env.reset(seed=0))
    observation, info = begun
    _check_observation(env, who + "reset", observation)
    stepped = _answer(
        who, "step", 5, "(observation, reward, terminated, truncated, info)", lambda: env.step(_first(info))
    )
    _check_observation(env, who + "step", stepped[0])
    if not np.isscalar(stepped[1]) and np.shape(stepped[1]) != ():
        raise UserError(f"{who}step gives the reward {stepped[1]!r}; give a number")
    for place, what in ((2, "terminated"), (3, "truncated")):
        if not isinstance(stepped[place], bool | np.bool_):
            raise UserError(f"{who}step gives {what} {stepped[place]!r}; give True or False")
    mask = info.get(MASK)
    if mask is not None and np.shape(mask) != (env.action_space.n,):  # type: ignore[attr-defined]
        raise UserError(f"{who}info[{MASK!r}] has shape {np.shape(mask)}; give one for each of the actions")
    if (mask is None) != (stepped[4].get(MASK) is None):
        has, has_not = ("step", "reset") if mask is None else ("reset", "step")
        raise UserError(f"{who}info of {has} has {MASK!r}, that of {has_not} has not; give it in both")
    is_bytes = observation.dtype == np.uint8 if isinstance(observation, np.ndarray) else False
    return np.dtype(np.uint8 if is_bytes and observation.ndim > 1 else np.float32), mask is not None


def _first(info: dict[str, Any]) -> int:
    """The first action that is allowed."""
    return int(np.argmax(info[MASK])) if MASK in info else 0


def _answer(who: str, what: str, parts: int, wanted: str, ask: Callable[[], Any]) -> Any:
    try:
        answer = ask()
    except (TypeError, ValueError) as error:
        raise UserError(f"{who}{what} fails: {error}; it must follow gymnasium's API") from error
    if not isinstance(answer, tuple) or len(answer) != parts:
        raise UserError(f"{who}{what} gives {type(answer).__name__}; gymnasium's API wants {wanted}")
    return answer


def _check_observation(env: Env, who: str, observation: Any) -> None:
    shape = env.observation_space.shape
    if np.shape(observation) != shape:
        raise UserError(f"{who} gives an observation of shape {np.shape(observation)}, its space says {shape}")
