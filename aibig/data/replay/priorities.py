"""Prioritised sampling of indices from 0 to capacity (arXiv 1511.05952). Knows no transition.

B samples.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FANOUT = 64
EPSILON = 1e-6  # added to an error, so that every transition can be sampled again (section 3.3)


class Priorities:
    """Samples in proportion to |TD error|**alpha (eq. 1), from a sum tree in which each sum is that of 64 below it.

    A sum is always computed anew from what it is the sum of, so that rounding errors don't add up.

    Args:
        capacity: indices are below this.
        alpha: exponent of the priorities.
    """

    def __init__(self, capacity: int, alpha: float) -> None:
        self.alpha = alpha
        self._levels: list[NDArray[np.float64]] = []  # from the leaves to the top, (sums above, FANOUT)
        count = capacity
        while not self._levels or count > 1:
            count = -(-count // FANOUT)
            self._levels.append(np.zeros((count, FANOUT)))
        self._leaves = self._levels[0].reshape(-1)  # the same memory
        self.largest = 1.0

    def add(self, indices: NDArray[np.int64]) -> None:
        """Give new transitions the largest priority so far, so that they are sampled soon (algorithm 1, line 6).

        Args:
            indices: of the transitions.
        """
        self._set(indices, self.largest)

    def remove(self, indices: NDArray[np.int64]) -> None:
        """Sample these transitions no more.

        Args:
            indices: of the transitions.
        """
        self._set(indices, 0.0)

    def update(self, indices: Tensor, td_errors: Tensor) -> None:
        """Set priorities; those of transitions removed in the meantime stay 0.

        Args:
            indices: of the transitions, (B,).
            td_errors: their absolute TD errors, (B,).
        """
        leaves = indices.cpu().numpy()
        values = (td_errors.detach().double().cpu().numpy() + EPSILON) ** self.alpha
        values[~np.isfinite(values)] = self.largest  # a run that gets over it must not fall over it here
        present = self._leaves[leaves] > 0
        if present.any():
            self._set(leaves[present], values[present])
            self.largest = max(self.largest, float(values[present].max()))

    def sample(self, batch_size: int, generator: torch.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Sample an index from each of `batch_size` equal parts of the sum (appendix B.2.1).

        Args:
            batch_size: B.
            generator: of random numbers.

        Returns:
            Indices (B,) and their probabilities (B,).
        """
        total = self._levels[-1].sum()
        rest = (torch.arange(batch_size) + torch.rand(batch_size, generator=generator, dtype=torch.float64)).numpy()
        rest, indices, rows = rest / batch_size * total, np.zeros(batch_size, np.int64), np.arange(batch_size)
        for level in reversed(self._levels):
            sums = level[indices].cumsum(1)  # (B, FANOUT)
            rest = np.minimum(rest, np.nextafter(sums[:, -1], 0.0))
            children = (sums > rest[:, None]).argmax(1)
            rest = rest - (sums[rows, children] - level[indices, children])
            indices = indices * FANOUT + children
        return indices, self._leaves[indices] / total

    def _set(self, indices: NDArray[np.int64], values: Any) -> None:
        self._leaves[indices] = values
        for below, above in pairwise(self._levels):
            indices = indices // FANOUT
            above.reshape(-1)[indices] = below[indices].sum(1)

    def state_dict(self) -> dict[str, Any]:
        """The priorities, which share memory."""
        return {"leaves": torch.from_numpy(self._leaves), "largest": self.largest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the priorities.

        Args:
            state: from `state_dict`.
        """
        self._leaves[:] = state["leaves"].numpy()
        for below, above in pairwise(self._levels):
            above.reshape(-1)[: len(below)] = below.sum(1)
        self.largest = state["largest"]


def importance_weights(probabilities: NDArray[np.float64], beta: float) -> Tensor:
    """Weights that make up for sampling some transitions more often, over their largest (section 3.4).

    Args:
        probabilities: of the sampled transitions, (B,).
        beta: exponent; 1 makes up for it in full.

    Returns:
        (B,) float32, 1 for the least probable.
    """
    return torch.from_numpy(((probabilities.min() / probabilities) ** beta).astype(np.float32))
