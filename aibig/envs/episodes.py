"""Whole episodes with a given policy. Knows no model: a policy is a function from observations to actions.

E environments, A actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aibig.envs.wrappers import MASK, Env

# Observations (E, ...) and the actions that are allowed, (E, A), or None -> (E,)
Policy = Callable[[NDArray[Any], NDArray[np.bool_] | None], NDArray[np.int64]]
MAX_ENVIRONMENTS = 64  # at once


def run_episodes(
    make: Callable[[], Env],
    policy: Policy,
    seeds: Sequence[int],
    dtype: Any = np.float32,
    *,
    at_once: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """One episode for each of `seeds`: returns (episodes,) and lengths (episodes,) in env steps.

    dtype: of observations. at_once: environments side by side, by default up to 64.
    """
    returns, lengths = np.zeros(len(seeds)), np.zeros(len(seeds), np.int64)
    waiting = list(range(len(seeds)))[::-1]
    running: dict[int, Env] = {}  # episode -> its environment
    latest: dict[int, tuple[Any, Any]] = {}  # episode -> observation and mask
    free = [make() for _ in range(min(len(seeds), at_once or MAX_ENVIRONMENTS))]
    every = list(free)
    while waiting or running:
        while waiting and free:
            episode = waiting.pop()
            running[episode] = free.pop()
            observation, info = running[episode].reset(seed=seeds[episode])
            latest[episode] = observation, info.get(MASK)
        episodes = list(running)
        observations = np.stack([latest[one][0] for one in episodes]).astype(dtype, copy=False)
        masks = [latest[one][1] for one in episodes]
        actions = policy(observations, None if masks[0] is None else np.stack(masks).astype(bool)).tolist()
        for episode, action in zip(episodes, actions, strict=True):
            observation, reward, terminated, truncated, info = running[episode].step(action)
            latest[episode] = observation, info.get(MASK)
            returns[episode] += float(reward)
            lengths[episode] += 1
            if terminated or truncated:
                free.append(running.pop(episode))
    for env in every:
        env.close()
    return returns, lengths
