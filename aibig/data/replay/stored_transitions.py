"""Transitions from a file, to learn from without acting. Knows no environment and no model."""

from __future__ import annotations

from typing import Any, ClassVar

from aibig.config.settings import ExistingPath, PositiveInt
from aibig.data.fingerprint import check_fingerprint, fingerprint
from aibig.data.replay.base import ReplayBuffer, ReplaySpec
from aibig.data.replay.replay import TransitionReplayBuffer
from aibig.data.replay.transition_files import read_transitions


class StoredReplayBuffer(TransitionReplayBuffer):
    """The transitions of a file and nothing else: the agent does not act (offline reinforcement learning).

    Args:
        spec: what the steps are like.
        path: a .npz file of NumPy, as aibig.save_transitions writes it, with the arrays observation and
            next_observation (N, ...), action, reward, terminated and truncated (N,).
        batch_size: transitions of a micro-batch over all ranks.

    Raises:
        UserError: the file is something else, or of another environment.
    """

    is_offline: ClassVar[bool] = True

    def __init__(self, spec: ReplaySpec, *, path: ExistingPath, batch_size: PositiveInt = 64) -> None:
        rows = read_transitions(path, spec)
        super().__init__(spec, batch_size=batch_size, capacity=len(rows[0]))
        self._store(*rows)
        self._fingerprint = fingerprint(self._tensor)

    def state_dict(self) -> dict[str, Any]:
        """Which transitions they are, since the file is read again, and their priorities."""
        return {**ReplayBuffer.state_dict(self), "fingerprint": self._fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the priorities. Raises UserError if the file has other transitions than the state is of."""
        check_fingerprint(self._fingerprint, state["fingerprint"], "data.path: are not the transitions")
        ReplayBuffer.load_state_dict(self, state)
