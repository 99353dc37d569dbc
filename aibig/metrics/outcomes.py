"""Outcomes of evaluations as NumPy arrays, for metrics, intervals and figures. Knows no model and no task.

N rows, C classes, K outputs, W windows of text, E episodes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from aibig.errors import UserError
from aibig.metrics import classification
from aibig.metrics.language import language_metrics
from aibig.metrics.regression import regression_metrics
from aibig.metrics.returns import return_metrics


class Outcome(ABC):
    """Predictions and targets, or episodes, as arrays whose first axis is that of rows, windows or episodes."""

    unit: ClassVar[str] = "rows"  # of the first axis

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """The metrics by name."""

    def __len__(self) -> int:
        return len(next(iter(self._arrays().values())))

    def take(self, index: NDArray[np.integer]) -> Outcome:
        """An outcome with a selection of the rows, windows or episodes.

        Args:
            index: their indices, which may repeat.
        """
        return replace(self, **{name: value[index] for name, value in self._arrays().items()})  # type: ignore[type-var]

    def _arrays(self) -> dict[str, NDArray[Any]]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


@dataclass
class ClassificationOutcome(Outcome):
    """Predicted probabilities and true classes.

    Args:
        probabilities: probabilities of the classes, (N, C).
        targets: true class indices, (N,).
        class_names: names of the C classes.
    """

    probabilities: NDArray[np.floating]
    targets: NDArray[np.integer]
    class_names: list[str]

    def metrics(self) -> dict[str, float]:
        """See `classification_metrics`."""
        return classification.classification_metrics(self.probabilities, self.targets)

    def per_class(self) -> list[dict[str, Any]]:
        """See `classification.per_class`."""
        return classification.per_class(self.probabilities, self.targets, self.class_names)


@dataclass
class RegressionOutcome(Outcome):
    """Predicted and true values.

    Args:
        predictions: (N, K), in the targets' units.
        targets: (N, K).
    """

    predictions: NDArray[np.floating]
    targets: NDArray[np.floating]

    def metrics(self) -> dict[str, float]:
        """See `regression_metrics`."""
        return regression_metrics(self.predictions, self.targets)


@dataclass
class TokenOutcome(Outcome):
    """A language model's loss over a text, by window.

    Args:
        losses: summed cross-entropy of each window's tokens, in nats, (W,).
        tokens: number of predicted tokens in each window, (W,).
        bytes: UTF-8 bytes of these tokens, (W,); None if the text can't be restored from tokens, such as words.
        opening: beginning of the text.
    """

    unit: ClassVar[str] = "windows"

    losses: NDArray[np.floating]
    tokens: NDArray[np.integer]
    bytes: NDArray[np.integer] | None = None
    opening: str = ""

    def metrics(self) -> dict[str, float]:
        """See `language_metrics`."""
        text_bytes = None if self.bytes is None else int(self.bytes.sum())
        return language_metrics(float(self.losses.sum()), int(self.tokens.sum()), text_bytes)


@dataclass
class EpisodeOutcome(Outcome):
    """Episodes that an agent played.

    Args:
        returns: sum of rewards of each episode, (E,).
        lengths: env steps of each episode, (E,).
    """

    unit: ClassVar[str] = "episodes"

    returns: NDArray[np.floating]
    lengths: NDArray[np.integer]

    def metrics(self) -> dict[str, float]:
        """See `return_metrics`."""
        return return_metrics(self.returns, self.lengths)


def bootstrap(
    outcome: Outcome, *, samples: int = 1_000, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals of the metrics (Efron and Tibshirani 1993, section 13.3).

    They show how the metrics vary with the test data, not with the training run. Windows of a text are treated as
    independent. The interval of a metric that is undefined for some resamples, such as ROC AUC if all rows are of one
    class, is that of the other resamples.

    Args:
        outcome: outcome whose rows, windows or episodes are resampled with replacement.
        samples: number of resamples.
        level: confidence level of the intervals.
        seed: seed of the resampling.

    Returns:
        (low, high) of each metric, by name.

    Raises:
        UserError: there is a single row, window or episode.
    """
    if len(outcome) < 2:
        raise UserError(f"an interval needs at least 2 rows, windows or episodes to resample, not {len(outcome)}")
    generator = np.random.default_rng(seed)
    resampled = [outcome.take(generator.integers(len(outcome), size=len(outcome))).metrics() for _ in range(samples)]
    percentiles = [50.0 * (1.0 - level), 50.0 * (1.0 + level)]
    intervals = {}
    for name in outcome.metrics():
        low, high = np.percentile([metrics[name] for metrics in resampled if name in metrics], percentiles)
        intervals[name] = (float(low), float(high))
    return intervals
