"""Whole episodes with a given policy. Knows no model: a policy is a function from observations to actions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from aibig.envs.pool import make_env

Policy = Callable[[NDArray[np.float32]], NDArray[np.int64]]  # (E, ...) -> (E,)
MAX_ENVIRONMENTS = 64  # at once


def run_episodes(
    make: Callable[[], gymnasium.Env[Any, Any]],
    policy: Policy,
    seeds: Sequence[int],
    *,
    at_once: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """One episode for each of `seeds`: returns (episodes,) and lengths (episodes,) in env steps.

    at_once: environments side by side, by default up to 64.
    """
    returns, lengths = np.zeros(len(seeds)), np.zeros(len(seeds), np.int64)
    waiting = list(range(len(seeds)))[::-1]
    running: dict[int, gymnasium.Env[Any, Any]] = {}  # episode -> its environment
    latest: dict[int, NDArray[np.float32]] = {}
    free = [make_env(make) for _ in range(min(len(seeds), at_once or MAX_ENVIRONMENTS))]
    every = list(free)
    while waiting or running:
        while waiting and free:
            episode = waiting.pop()
            running[episode] = free.pop()
            latest[episode] = np.asarray(running[episode].reset(seed=seeds[episode])[0], np.float32)
        episodes = list(running)
        actions = policy(np.stack([latest[one] for one in episodes])).tolist()
        for episode, action in zip(episodes, actions, strict=True):
            observation, reward, terminated, truncated, _ = running[episode].step(action)
            latest[episode] = np.asarray(observation, np.float32)
            returns[episode] += float(reward)
            lengths[episode] += 1
            if terminated or truncated:
                free.append(running.pop(episode))
    for env in every:
        env.close()
    return returns, lengths
