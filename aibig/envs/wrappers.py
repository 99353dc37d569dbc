"""Wrappers that make an observation one array and put the action mask into `info`. Knows no pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from aibig.errors import UserError

Env = gymnasium.Env[Any, Any]
Array = NDArray[Any]
Mask = NDArray[np.bool_] | None
ACTION_MASK = "action_mask"  # key in `info`, or in a Dict observation


class ActionMaskToInfo(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Moves the action mask from a Dict observation to `info`.

    Args:
        env: an environment whose observation space is a Dict with "action_mask".

    Raises:
        UserError: the observation has nothing but the mask.
    """

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Dict)
        rest = {name: space for name, space in env.observation_space.items() if name != ACTION_MASK}
        if not rest:
            raise UserError(f"the observation has nothing but {ACTION_MASK!r}; add what the agent sees")
        self._only = next(iter(rest)) if len(rest) == 1 else None
        self.observation_space = spaces.Dict(rest) if self._only is None else rest[self._only]

    def reset(self, **settings: Any) -> Any:
        """Reset the environment.

        Args:
            settings: seed and options.
        """
        observation, info = self.env.reset(**settings)
        return self._without_mask(observation), {**info, ACTION_MASK: observation[ACTION_MASK]}

    def step(self, action: Any) -> Any:
        """Step the environment.

        Args:
            action: the action to take.
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        info = {**info, ACTION_MASK: observation[ACTION_MASK]}
        return self._without_mask(observation), reward, terminated, truncated, info

    def _without_mask(self, observation: Any) -> Any:
        if self._only is not None:
            return observation[self._only]
        return {name: value for name, value in observation.items() if name != ACTION_MASK}


def make_env(make: Callable[[], Env], frame_stack: int = 1) -> Env:
    """Make an environment and wrap it with `wrap_env`.

    Args:
        make: a function that returns a gymnasium.Env.
        frame_stack: latest observations that are stacked.

    Raises:
        UserError: the environment can't be made, or a package that it needs is not installed.
    """
    try:
        env = make()
    except gymnasium.error.DependencyNotInstalled as error:
        raise UserError(f"the environment needs a package that is not installed: {error}") from None
    except (gymnasium.error.Error, TypeError, ImportError) as error:
        raise UserError(f"the environment can't be made: {error}") from None
    except (KeyError, ValueError, AssertionError, AttributeError) as error:  # how environments refuse settings
        if isinstance(error, UserError):
            raise
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        raise UserError(f"the environment can't be made with these settings ({reason}); correct them") from error
    if not isinstance(env, gymnasium.Env):
        raise UserError(f"the environment is a {type(env).__name__}, not a gymnasium.Env")
    modes = env.metadata.get("render_modes", [])
    if modes and env.render_mode not in (None, *modes):
        raise UserError(f"render_mode must be one of {', '.join(modes)} in this environment, not {env.render_mode!r}")
    return wrap_env(env, frame_stack)


def wrap_env(env: Env, frame_stack: int = 1) -> Env:
    """Wrap an environment so that its observation is one array and its action mask is in `info`.

    An observation that is no Box is flattened by gymnasium's own wrapper.

    Args:
        env: a gymnasium environment with Discrete actions.
        frame_stack: latest observations that are stacked along a new first axis.

    Raises:
        UserError: the actions are not Discrete, or the observation can't be flattened.
    """
    actions = env.action_space
    if not isinstance(actions, spaces.Discrete):
        raise UserError(f"the action space is {actions}; DQN needs a Discrete one")
    if actions.start != 0:
        raise UserError(f"the actions are numbered from {actions.start}; wrap the environment to number them from 0")
    if isinstance(env.observation_space, spaces.Dict) and ACTION_MASK in env.observation_space.spaces:
        env = ActionMaskToInfo(env)
    if not isinstance(env.observation_space, spaces.Box) or not env.observation_space.shape:
        if not env.observation_space.is_np_flattenable:
            raise UserError(f"the observation space is {env.observation_space}; wrap the environment to make it a Box")
        env = gymnasium.wrappers.FlattenObservation(env)
    if frame_stack > 1:
        env = gymnasium.wrappers.FrameStackObservation(env, frame_stack)
    return env


def check_env(env: Env, name: str) -> tuple[np.dtype[Any], bool]:
    """Check with a reset and a step that an environment follows gymnasium's API.

    Args:
        env: the environment, wrapped.
        name: what errors call it.

    Returns:
        The dtype in which observations are kept (uint8 for images of bytes, else float32), and whether there are
        action masks.

    Raises:
        UserError: it does not follow the API.
    """
    place = f"environment {name!r}: "
    observation, info = _call(f"{place}reset", "(observation, info)", lambda: env.reset(seed=0))
    _check_observation(env, f"{place}reset", observation)
    mask = info.get(ACTION_MASK)
    action = 0 if mask is None else int(np.argmax(mask))
    parts = "(observation, reward, terminated, truncated, info)"
    next_observation, reward, terminated, truncated, next_info = _call(f"{place}step", parts, lambda: env.step(action))
    _check_observation(env, f"{place}step", next_observation)
    if not np.isscalar(reward) and np.shape(reward) != ():
        raise UserError(f"{place}step returns the reward {reward!r}; return a number")
    for key, value in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(value, bool | np.bool_):
            raise UserError(f"{place}step returns {key} {value!r}; return True or False")
    if mask is not None and np.shape(mask) != (env.action_space.n,):  # type: ignore[attr-defined]
        raise UserError(f"{place}info[{ACTION_MASK!r}] has shape {np.shape(mask)}; return a value for each action")
    if (mask is None) != (next_info.get(ACTION_MASK) is None):
        has, has_not = ("step", "reset") if mask is None else ("reset", "step")
        raise UserError(f"{place}info of {has} has {ACTION_MASK!r}, that of {has_not} has not; return it in both")
    is_image = isinstance(observation, np.ndarray) and observation.dtype == np.uint8 and observation.ndim > 1
    return np.dtype(np.uint8 if is_image else np.float32), mask is not None


def _call(place: str, parts: str, function: Callable[[], Any]) -> Any:
    try:
        result = function()
    except (TypeError, ValueError) as error:
        raise UserError(f"{place} fails: {error}; it must follow gymnasium's API") from error
    if not isinstance(result, tuple) or len(result) != parts.count(",") + 1:
        raise UserError(f"{place} returns {type(result).__name__}; gymnasium's API wants {parts}")
    return result


def _check_observation(env: Env, place: str, observation: Any) -> None:
    shape = env.observation_space.shape
    if np.shape(observation) != shape:
        raise UserError(f"{place} returns an observation of shape {np.shape(observation)}, its space says {shape}")
