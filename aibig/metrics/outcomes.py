"""What an evaluation saw, as plain NumPy: enough for every metric, interval and picture. Knows no model and no task.

N rows, C classes, K outputs, W windows of text, E episodes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from aibig.errors import UserError
from aibig.metrics import functions as metrics


class Outcome(ABC):
    """Things that were judged one by one (rows, windows, episodes), in arrays whose first axis counts them."""

    unit: ClassVar[str] = "rows"  # what these are

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """The metrics of all of them, by name."""

    def __len__(self) -> int:
        return len(next(one for one in self._arrays().values()))

    def take(self, index: NDArray[np.integer]) -> Outcome:
        """Those with the numbers `index`, which may repeat, as an outcome of the same kind."""
        return replace(self, **{name: value[index] for name, value in self._arrays().items()})  # type: ignore[type-var]

    def _arrays(self) -> dict[str, NDArray[Any]]:
        values = {one.name: getattr(self, one.name) for one in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


@dataclass
class ClassificationOutcome(Outcome):
    """Probabilities (N, C) of the classes `class_names`, and the true class numbers (N,)."""

    probabilities: NDArray[np.floating]
    targets: NDArray[np.integer]
    class_names: list[str]

    def metrics(self) -> dict[str, float]:
        """As `classification_metrics` says."""
        return metrics.classification_metrics(self.probabilities, self.targets)

    def per_class(self) -> list[dict[str, Any]]:
        """As `metrics.per_class` says."""
        return metrics.per_class(self.probabilities, self.targets, self.class_names)


@dataclass
class RegressionOutcome(Outcome):
    """Predictions (N, K) and targets (N, K), in the targets' units."""

    predictions: NDArray[np.floating]
    targets: NDArray[np.floating]

    def metrics(self) -> dict[str, float]:
        """As `regression_metrics` says."""
        return metrics.regression_metrics(self.predictions, self.targets)


@dataclass
class TokenOutcome(Outcome):
    """The summed loss (W,) of each window's tokens in nats, how many tokens (W,) and UTF-8 bytes (W,) those are.

    bytes: None where the tokens do not say all of the text, as words do not. opening: how the text begins.
    """

    unit: ClassVar[str] = "windows"

    losses: NDArray[np.floating]
    tokens: NDArray[np.integer]
    bytes: NDArray[np.integer] | None = None
    opening: str = ""

    def metrics(self) -> dict[str, float]:
        """As `language_metrics` says."""
        text_bytes = None if self.bytes is None else int(self.bytes.sum())
        return metrics.language_metrics(float(self.losses.sum()), int(self.tokens.sum()), text_bytes)


@dataclass
class EpisodeOutcome(Outcome):
    """The return (E,) and length in env steps (E,) of each episode."""

    unit: ClassVar[str] = "episodes"

    returns: NDArray[np.floating]
    lengths: NDArray[np.integer]

    def metrics(self) -> dict[str, float]:
        """As `return_metrics` says."""
        return metrics.return_metrics(self.returns, self.lengths)


def bootstrap(
    outcome: Outcome, *, samples: int = 1_000, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """(low, high) of each metric: the percentiles of its values over resamples of the rows, windows or episodes.

    Each resample draws as many as there are, with replacement (Efron and Tibshirani 1993, section 13.3). It says how
    far the metrics of other data of the same kind would vary, not those of other training runs; windows of a text
    count as independent. A metric that some resamples lack, ROC AUC where one class alone was drawn, is that of the
    others.

    Raises UserError for a single row, which says nothing of others.
    """
    if len(outcome) < 2:
        raise UserError(f"an interval takes at least 2 rows, windows or episodes to resample, not {len(outcome)}")
    generator = np.random.default_rng(seed)
    drawn = [outcome.take(generator.integers(len(outcome), size=len(outcome))).metrics() for _ in range(samples)]
    tails = [50.0 * (1.0 - level), 50.0 * (1.0 + level)]
    intervals = {}
    for name in outcome.metrics():
        low, high = np.percentile([one[name] for one in drawn if name in one], tails)
        intervals[name] = (float(low), float(high))
    return intervals
