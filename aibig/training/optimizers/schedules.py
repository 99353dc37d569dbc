"""Learning-rate schedules: each returns a function (step, progress) -> factor of the base rate. Knows no optimizer.

`step` counts updates from 0, `progress` goes from 0 to 1 over the run's limit. The warm-up is linear over
`warmup_steps` updates; the decay ends at `final_fraction` of the base rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from aibig.config.settings import Fraction, NonNegativeInt

Schedule = Callable[[int, float], float]


def constant(*, warmup_steps: NonNegativeInt = 0) -> Schedule:
    """The base rate throughout.

    Args:
        warmup_steps: updates over which the rate rises to its base.
    """
    return lambda step, progress: _warmup(step, warmup_steps)


def linear(*, warmup_steps: NonNegativeInt = 0, final_fraction: Fraction = 0.0) -> Schedule:
    """A straight line down.

    Args:
        warmup_steps: updates over which the rate rises to its base.
        final_fraction: fraction of the base rate at the end.
    """
    return lambda step, progress: _warmup(step, warmup_steps) * _between(1.0, final_fraction, progress)


def cosine(*, warmup_steps: NonNegativeInt = 0, final_fraction: Fraction = 0.1) -> Schedule:
    """Half a cosine down (arXiv 1608.03983, eq. 5, without restarts).

    Args:
        warmup_steps: updates over which the rate rises to its base.
        final_fraction: fraction of the base rate at the end.
    """

    def factor(step: int, progress: float) -> float:
        decayed = (1.0 - math.cos(math.pi * progress)) / 2.0
        return _warmup(step, warmup_steps) * _between(1.0, final_fraction, decayed)

    return factor


def warmup_stable_decay(
    *, warmup_steps: NonNegativeInt = 0, decay_fraction: Fraction = 0.2, final_fraction: Fraction = 0.0
) -> Schedule:
    """The base rate, then a straight line down at the end (arXiv 2404.06395).

    Args:
        warmup_steps: updates over which the rate rises to its base.
        decay_fraction: fraction of the run, at its end, over which the rate decays.
        final_fraction: fraction of the base rate at the end.
    """

    def factor(step: int, progress: float) -> float:
        start = 1.0 - decay_fraction
        decayed = (progress - start) / decay_fraction if progress > start else 0.0
        return _warmup(step, warmup_steps) * _between(1.0, final_fraction, decayed)

    return factor


def _warmup(step: int, warmup_steps: int) -> float:
    return min(1.0, (step + 1) / (warmup_steps + 1))


def _between(start: float, end: float, fraction: float) -> float:
    return start + (end - start) * min(1.0, fraction)
