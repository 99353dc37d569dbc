"""Files of transitions. Knows no environment, no model and no replay buffer.

N steps, in the order in which they happened.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from aibig.data.replay.base import ReplaySpec
from aibig.data.replay.n_step import Rows, n_step_transitions
from aibig.errors import UserError

ARRAYS = ("observation", "action", "reward", "next_observation", "terminated", "truncated")


def save_transitions(
    path: str | Path,
    observation: Any,
    action: Any,
    reward: Any,
    next_observation: Any,
    terminated: Any,
    truncated: Any,
) -> None:
    """Write N steps, in the order in which they happened, as a .npz file.

    Where a next observation is not the observation that follows, an episode is taken to end too.

    Args:
        path: of the file.
        observation: arrays or tensors, (N, ...).
        action: numbers of the actions, (N,).
        reward: (N,).
        next_observation: (N, ...).
        terminated: whether the episode terminated, (N,).
        truncated: whether the episode was truncated, (N,).
    """
    values = (observation, action, reward, next_observation, terminated, truncated)
    arrays = {
        name: np.asarray(value.cpu() if isinstance(value, Tensor) else value)
        for name, value in zip(ARRAYS, values, strict=True)
    }
    np.savez_compressed(path, **_with_bools(arrays))


def read_transitions(path: str | Path, spec: ReplaySpec) -> Rows:
    """Read a file that `save_transitions` wrote.

    Args:
        path: of the file.
        spec: what its steps must be like, and how many a transition sums.

    Returns:
        The transitions as `n_step_transitions` returns them.

    Raises:
        UserError: naming the file and the array that doesn't fit.
    """
    if spec.action_masks:
        raise UserError(f"{path}: has no action masks, which this environment has; learn by acting alone")
    arrays = _read_arrays(path)
    count = arrays["observation"].shape[0] if arrays["observation"].ndim else 0
    for name, array in arrays.items():
        shape = (count, *(spec.observation_shape if "observation" in name else ()))
        if array.shape != shape:
            raise UserError(f"{path}: {name} has shape {array.shape}, for this environment it must be {shape}")
    if not count:
        raise UserError(f"{path}: has no transitions")
    action = arrays["action"]
    if action.dtype.kind not in "iu" or action.min() < 0 or action.max() >= spec.actions:
        raise UserError(f"{path}: action must have whole numbers from 0 to {spec.actions - 1}")
    for name in ("observation", "next_observation", "reward"):
        if arrays[name].dtype.kind not in "fiub":
            raise UserError(f"{path}: {name} must have numbers")
        if not np.isfinite(arrays[name]).all():
            raise UserError(f"{path}: {name} has numbers that are not finite")
    observation, next_observation = (arrays[name].reshape(count, -1) for name in ("observation", "next_observation"))
    arrays["truncated"][:-1] |= (next_observation[:-1] != observation[1:]).any(1)  # the next step is another episode's
    arrays["reward"] = spec.scale_and_clip(arrays["reward"])
    return n_step_transitions(**arrays, n_step=spec.n_step, discount=spec.discount)


def _read_arrays(path: str | Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in ARRAYS if name not in file.files]
            if missing:
                raise UserError(f"{path}: has no array {missing[0]!r}; it takes {', '.join(ARRAYS)}")
            return _with_bools({name: file[name] for name in ARRAYS})
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: is no .npz file of NumPy ({error}); write one with aibig.save_transitions") from None


def _with_bools(arrays: dict[str, Any]) -> dict[str, Any]:
    return arrays | {name: arrays[name].astype(bool) for name in ("terminated", "truncated")}
