"""Outcomes of evaluations as NumPy arrays: enough for each metric, interval and figure. Knows no model and no task.

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
    """What was judged one by one (rows, windows, episodes), in arrays whose first axis counts them."""

    unit: ClassVar[str] = "rows"  # what is counted

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """The metrics of all of them, by name."""

    def __len__(self) -> int:
        return len(next(iter(self._arrays().values())))

    def take(self, index: NDArray[np.integer]) -> Outcome:
        """An outcome of the same kind with some of the rows, windows or episodes.

        Args:
            index: which ones; they may repeat.
        """
        return replace(self, **{name: value[index] for name, value in self._arrays().items()})  # type: ignore[type-var]

    def _arrays(self) -> dict[str, NDArray[Any]]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


@dataclass
class ClassificationOutcome(Outcome):
    """Predicted probabilities and true classes.

    Args:
        probabilities: of each class, (N, C).
        targets: true class indices, (N,).
        class_names: of the C classes.
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
        tokens: how many tokens were predicted in each window, (W,).
        bytes: UTF-8 bytes of those tokens, (W,); None if the tokens do not spell out the text, as words do not.
        opening: the beginning of the text.
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

    They say how far the metrics of other data of the same kind would vary, not those of other training runs. Windows of
    a text count as independent. A metric that some resamples lack, such as ROC AUC where all rows are of one class,
    takes its interval from the other resamples.

    Args:
        outcome: whose rows, windows or episodes are resampled with replacement.
        samples: how many resamples.
        level: confidence level of the intervals.
        seed: of the resampling.

    Returns:
        (low, high) of each metric, by name.

    Raises:
        UserError: there is a single row, window or episode.
    """
    if len(outcome) < 2:
        raise UserError(f"an interval takes at least 2 rows, windows or episodes to resample, not {len(outcome)}")
    generator = np.random.default_rng(seed)
    resampled = [outcome.take(generator.integers(len(outcome), size=len(outcome))).metrics() for _ in range(samples)]
    percentiles = [50.0 * (1.0 - level), 50.0 * (1.0 + level)]
    intervals = {}
    for name in outcome.metrics():
        low, high = np.percentile([metrics[name] for metrics in resampled if name in metrics], percentiles)
        intervals[name] = (float(low), float(high))
    return intervals
