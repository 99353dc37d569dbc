"""Transitions from a file, to learn from without acting, or to begin with. Knows no environment and no model.

N steps, in the order in which they happened.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from aibig.config.settings import ExistingPath, PositiveInt
from aibig.data.fingerprint import check_fingerprint, fingerprint
from aibig.data.replay.base import Array, ReplaySpec
from aibig.data.replay.n_step import n_step_transitions
from aibig.data.replay.replay import Replay
from aibig.errors import UserError

PARTS = ("observation", "action", "reward", "next_observation", "terminated", "truncated")


class StoredTransitions(Replay):
    """A replay that holds what a file does and nothing else: the agent does not act (offline reinforcement learning).

    path: a .npz file of NumPy, with the arrays observation and next_observation (N, ...), action, reward, terminated
    and truncated (N,), as `save_transitions` writes it. batch_size: of a micro-batch over all ranks.

    Raises UserError for a file that is something else, or of another environment.
    """

    is_fixed = True

    def __init__(self, spec: ReplaySpec, *, path: ExistingPath, batch_size: PositiveInt = 64) -> None:
        rows = read_transitions(path, spec)
        super().__init__(spec, batch_size=batch_size, capacity=len(rows[0]))
        self._put(*rows)
        self._fingerprint = fingerprint(self._tensor)

    def state_dict(self) -> dict[str, Any]:
        """Which transitions they are, since the file is read again, and their priorities."""
        priorities = None if self._priorities is None else self._priorities.state_dict()
        return {"fingerprint": self._fingerprint, "priorities": priorities}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave. Raises UserError if the file holds other transitions."""
        check_fingerprint(self._fingerprint, state["fingerprint"], "data.path: are not the transitions")
        if self._priorities is not None:
            self._priorities.load_state_dict(state["priorities"])


def read_transitions(path: str | Path, spec: ReplaySpec) -> tuple[Array, ...]:
    """The transitions of a file, over n steps, as `n_step_transitions` gives them.

    Raises UserError, which names the file and the array, for what does not fit `layout`.
    """
    if spec.action_masks:
        raise UserError(f"{path}: holds no action masks, which this environment has; learn by acting alone")
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in PARTS if name not in file.files]
            if missing:
                raise UserError(f"{path}: has no array {missing[0]!r}; it takes {', '.join(PARTS)}")
            parts = {name: file[name] for name in PARTS}
            parts |= {name: parts[name].astype(bool) for name in ("terminated", "truncated")}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: is no .npz file of NumPy ({error}); write one with aibig.save_transitions") from None
    count = parts["observation"].shape[0] if parts["observation"].ndim else 0
    for name, array in parts.items():
        shape = (count, *(spec.observation_shape if "observation" in name else ()))
        if array.shape != shape:
            raise UserError(f"{path}: {name} has shape {array.shape}, for this environment it must be {shape}")
    if not count:
        raise UserError(f"{path}: holds no transitions")
    actions = parts["action"]
    if actions.dtype.kind not in "iu" or actions.min() < 0 or actions.max() >= spec.actions:
        raise UserError(f"{path}: action must hold whole numbers from 0 to {spec.actions - 1}")
    for name in ("observation", "next_observation", "reward"):
        if parts[name].dtype.kind not in "fiub":
            raise UserError(f"{path}: {name} must hold numbers")
        if not np.isfinite(parts[name]).all():
            raise UserError(f"{path}: {name} holds numbers that are not finite")
    seen, after = (parts[name].reshape(count, -1) for name in ("observation", "next_observation"))
    parts["truncated"][:-1] |= (after[:-1] != seen[1:]).any(1)  # what follows there is another episode's
    parts["reward"] = spec.rewards(parts["reward"])
    return n_step_transitions(**parts, steps=spec.n_step, discount=spec.discount)


def save_transitions(
    path: str | Path,
    observation: Any,
    action: Any,
    reward: Any,
    next_observation: Any,
    terminated: Any,
    truncated: Any,
) -> None:
    """Write N steps in the order in which they happened as a .npz file: (N, ...) and (N,) each.

    An episode's last step has terminated or truncated True; where the next observation is not the one that follows, an
    episode is taken to end too.
    """
    given = (observation, action, reward, next_observation, terminated, truncated)
    parts = {
        name: np.asarray(value.cpu() if isinstance(value, Tensor) else value)
        for name, value in zip(PARTS, given, strict=True)
    }
    parts |= {name: parts[name].astype(bool) for name in ("terminated", "truncated")}
    np.savez_compressed(path, **parts)  # type: ignore[arg-type]
