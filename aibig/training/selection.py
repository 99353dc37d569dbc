"""Selects the best evaluation, and stops a run by its metric: early stopping, or a goal. Knows no task."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from aibig.errors import UserError, nearest
from aibig.training.limits import Progress


@dataclass
class Selection:
    """Compares evaluations by one metric.

    Args:
        metric: the metric; None for the task's primary metric.
        patience: evaluations in a row without an improvement of more than `min_delta`, after which the run ends
            (L. Prechelt, "Early stopping - but when?", 1998); None: no early stopping.
        min_delta: the improvement of the metric that must be exceeded to reset the patience.
        goal: value of the metric at which the run ends; None: no goal.
    """

    metric: str | None = None
    patience: int | None = None
    min_delta: float = 0.0
    goal: float | None = None

    @property
    def needs_evaluation(self) -> bool:
        """Whether a setting can only be checked by an evaluation."""
        return any(setting is not None for setting in (self.metric, self.patience, self.goal))

    def check(self, metrics: Mapping[str, float], primary_metric: str) -> None:
        """Check that an evaluation has the metric.

        Args:
            metrics: of the evaluation; empty if there is no validation split.
            primary_metric: the task's.

        Raises:
            UserError: the metric is missing.
        """
        if not metrics and self.needs_evaluation:
            settings = {"patience": self.patience, "goal": self.goal, "best_metric": self.metric}
            setting = next(name for name, value in settings.items() if value is not None)
            raise UserError(
                f"trainer.{setting}: there is no validation split to evaluate; set data.validation_fraction, or "
                "leave it out"
            )
        metric = self.metric or primary_metric
        if metrics and metric not in metrics:
            culprit = "trainer.best_metric" if self.metric else "the task's primary_metric"
            hint = nearest(metric, metrics) or ""
            raise UserError(f"{culprit}: {metric!r} is not evaluated{hint}; there are: {', '.join(metrics)}")

    def update(
        self, metrics: Mapping[str, float], primary_metric: str, lower_is_better: Collection[str], progress: Progress
    ) -> bool:
        """Update best score and patience. Returns whether this evaluation is the best so far.

        Args:
            metrics: of the evaluation.
            primary_metric: the task's.
            lower_is_better: names of the metrics where a lower value is better.
            progress: of the run; is updated.
        """
        self.check(metrics, primary_metric)
        metric = self.metric or primary_metric
        progress.lower_is_better = metric in lower_is_better
        score, sign = metrics[metric], -1.0 if progress.lower_is_better else 1.0

        def improvement(over: float | None) -> float:
            difference = math.inf if over is None else sign * (score - over)
            return difference if math.isfinite(score) else -math.inf  # NaN and infinity are never better

        if improvement(progress.patience_score) > self.min_delta:
            progress.patience_score, progress.patience_used = score, 0
        else:
            progress.patience_used += 1
        if improvement(progress.best_score) <= 0:
            return False
        progress.best_score, progress.best_step = score, progress.step
        return True

    def stop_reason(self, progress: Progress) -> str | None:
        """The setting that ends the run now: "goal" or "patience"; None if the run goes on.

        Args:
            progress: of the run, as `update` left it.
        """
        if self.goal is not None and progress.best_score is not None:
            sign = -1.0 if progress.lower_is_better else 1.0
            if sign * (progress.best_score - self.goal) >= 0:
                return "goal"
        return "patience" if self.patience is not None and progress.patience_used >= self.patience else None
