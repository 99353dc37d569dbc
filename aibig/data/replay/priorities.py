"""Which transitions are drawn how often. Knows no transition: they are numbers from 0 to capacity.

B draws.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FAN = 64
SMALLEST = 1e-6  # added to an error, so that none is never drawn again (arXiv 1511.05952, section 3.3)


class Priorities:
    """Draws in proportion to error**exponent (prioritised experience replay: arXiv 1511.05952, eq. 1).

    A sum tree in which each sum is that of 64 below it: a draw finds its place among 64 on each level. Sums are always
    made anew from what they are sums of, so that rounding does not gather. exponent: alpha.
    """

    def __init__(self, capacity: int, exponent: float) -> None:
        self.exponent = exponent
        self._levels: list[NDArray[np.float64]] = []  # from the leaves to the top, (sums above, FAN)
        count = capacity
        while not self._levels or count > 1:
            count = -(-count // FAN)
            self._levels.append(np.zeros((count, FAN)))
        self._leaves = self._levels[0].reshape(-1)  # the same memory
        self.largest = 1.0

    def add(self, index: NDArray[np.int64]) -> None:
        """What is new gets the largest priority so far, so that it is drawn soon (algorithm 1, line 6)."""
        self._set(index, self.largest)

    def remove(self, index: NDArray[np.int64]) -> None:
        """These are drawn no more."""
        self._set(index, 0.0)

    def update(self, places: Tensor, errors: Tensor) -> None:
        """Priorities of the errors (B,) at `places` (B,); those removed since they were drawn stay so."""
        where = places.cpu().numpy()
        values = (errors.detach().double().cpu().numpy() + SMALLEST) ** self.exponent
        values[~np.isfinite(values)] = self.largest  # a run that gets over it must not fall over it here
        there = self._leaves[where] > 0
        if there.any():
            self._set(where[there], values[there])
            self.largest = max(self.largest, float(values[there].max()))

    def draw(self, count: int, generator: torch.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Indices (B,), one from each of `count` equal parts of the sum (appendix B.2.1), and their probabilities."""
        total = self._levels[-1].sum()
        parts = (torch.arange(count) + torch.rand(count, generator=generator, dtype=torch.float64)).numpy() / count
        rest, index, rows = parts * total, np.zeros(count, np.int64), np.arange(count)
        for level in reversed(self._levels):
            bounds = level[index].cumsum(1)  # (B, FAN)
            rest = np.minimum(rest, np.nextafter(bounds[:, -1], 0.0))
            chosen = (bounds > rest[:, None]).argmax(1)
            rest = rest - (bounds[rows, chosen] - level[index, chosen])
            index = index * FAN + chosen
        return index, self._leaves[index] / total

    def _set(self, index: NDArray[np.int64], values: Any) -> None:
        self._leaves[index] = values
        for below, above in pairwise(self._levels):
            index = index // FAN
            above.reshape(-1)[index] = below[index].sum(1)

    def state_dict(self) -> dict[str, Any]:
        """The priorities; they share memory."""
        return {"leaves": torch.from_numpy(self._leaves), "largest": self.largest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._leaves[:] = state["leaves"].numpy()
        for below, above in pairwise(self._levels):
            above.reshape(-1)[: len(below)] = below.sum(1)
        self.largest = state["largest"]


def importance_weights(probabilities: NDArray[np.float64], exponent: float) -> Tensor:
    """(B,) float32, 1 for the rarest: what makes up for drawing some more often (section 3.4). exponent: beta."""
    return torch.from_numpy(((probabilities.min() / probabilities) ** exponent).astype(np.float32))
