"""Learning-rate schedules: functions (step, fraction_done) -> factor of the base learning rate. Knows no optimizer.

`step` is the number of updates so far, `fraction_done` the fraction of the run that is done, from 0 to 1. Warm-up is
linear.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from aibig.config.settings import Fraction, NonNegativeInt

Schedule = Callable[[int, float], float]


def constant(*, warmup_steps: NonNegativeInt = 0) -> Schedule:
    """Constant at the base rate, after the warm-up.

    Args:
        warmup_steps: updates over which the learning rate rises to its base.
    """
    return lambda step, fraction_done: _warmup(step, warmup_steps)


def linear(*, warmup_steps: NonNegativeInt = 0, final_fraction: Fraction = 0.0) -> Schedule:
    """Linear decay, after the warm-up.

    Args:
        warmup_steps: updates over which the learning rate rises to its base.
        final_fraction: fraction of the base rate at the end.
    """
    return lambda step, fraction_done: _warmup(step, warmup_steps) * _between(1.0, final_fraction, fraction_done)


def cosine(*, warmup_steps: NonNegativeInt = 0, final_fraction: Fraction = 0.1) -> Schedule:
    """Cosine decay, after the warm-up (arXiv 1608.03983, eq. 5, without restarts).

    Args:
        warmup_steps: updates over which the learning rate rises to its base.
        final_fraction: fraction of the base rate at the end.
    """

    def factor(step: int, fraction_done: float) -> float:
        decayed = (1.0 - math.cos(math.pi * fraction_done)) / 2.0
        return _warmup(step, warmup_steps) * _between(1.0, final_fraction, decayed)

    return factor


def warmup_stable_decay(
    *, warmup_steps: NonNegativeInt = 0, decay_fraction: Fraction = 0.2, final_fraction: Fraction = 0.0
) -> Schedule:
    """Constant at the base rate after the warm-up, then linear decay at the end (arXiv 2404.06395).

    Args:
        warmup_steps: updates over which the learning rate rises to its base.
        decay_fraction: fraction of the run, at its end, over which the rate decays.
        final_fraction: fraction of the base rate at the end.
    """

    def factor(step: int, fraction_done: float) -> float:
        start = 1.0 - decay_fraction
        decayed = (fraction_done - start) / decay_fraction if fraction_done > start else 0.0
        return _warmup(step, warmup_steps) * _between(1.0, final_fraction, decayed)

    return factor


def _warmup(step: int, warmup_steps: int) -> float:
    return min(1.0, (step + 1) / (warmup_steps + 1))


def _between(start: float, end: float, fraction: float) -> float:
    return start + (end - start) * min(1.0, fraction)
