"""Learning-rate schedules: each makes a function (step, progress) -> factor of the base rate. Knows no optimizer.

`step` counts updates from 0, `progress` runs from 0 to 1 over the run's limit. Warm-up rises in a straight line
over `warmup_steps` updates; the decay goes to `final_fraction` of the base rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from aibig.config.settings import Fraction, NonNegativeInt

Schedule = Callable[[int, float], float]


def constant(*, warmup_steps: NonNegativeInt = 0) -> Schedule:
    """The base rate throughout."""
    return lambda step, progress: _warmup(step, warmup_steps)


def linear(*, warmup_steps: NonNegativeInt = 0, final_fraction: Fraction = 0.0) -> Schedule:
    """A straight line from the base rate to its `final_fraction`."""
    return lambda step, progress: _warmup(step, warmup_steps) * _between(1.0, final_fraction, progress)


def cosine(*, warmup_steps: NonNegativeInt = 0, final_fraction: Fraction = 0.1) -> Schedule:
    """Half a cosine from the base rate to its `final_fraction` (arXiv 1608.03983, eq. 5, without restarts)."""

    def factor(step: int, progress: float) -> float:
        fallen = (1.0 - math.cos(math.pi * progress)) / 2.0
        return _warmup(step, warmup_steps) * _between(1.0, final_fraction, fallen)

    return factor


def warmup_stable_decay(
    *, warmup_steps: NonNegativeInt = 0, decay_fraction: Fraction = 0.2, final_fraction: Fraction = 0.0
) -> Schedule:
    """The base rate, then over the last `decay_fraction` of the run a straight line down (arXiv 2404.06395)."""

    def factor(step: int, progress: float) -> float:
        begun = 1.0 - decay_fraction
        fallen = (progress - begun) / decay_fraction if progress > begun else 0.0
        return _warmup(step, warmup_steps) * _between(1.0, final_fraction, fallen)

    return factor


def _warmup(step: int, warmup_steps: int) -> float:
    return min(1.0, (step + 1) / (warmup_steps + 1))


def _between(start: float, end: float, fraction: float) -> float:
    return start + (end - start) * min(1.0, fraction)
