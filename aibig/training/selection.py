"""Which evaluation was the best, and when to wait no longer for a better one. Knows no task."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from aibig.errors import UserError, nearest
from aibig.training.limits import Progress


@dataclass
class Selection:
    """Judges evaluations by one metric.

    metric: None for what the task says. patience: the run ends after so many evaluations in a row that were no
    better than the best of before by more than `min_delta` (L. Prechelt, "Early stopping - but when?", 1998). goal:
    the run ends as soon as the metric is as good as that.
    """

    metric: str | None = None
    patience: int | None = None
    min_delta: float = 0.0
    goal: float | None = None

    @property
    def needs_evaluation(self) -> bool:
        """Whether it can be known only from an evaluation that what was asked for is possible."""
        return any(one is not None for one in (self.metric, self.patience, self.goal))

    def check(self, metrics: Mapping[str, float], primary_metric: str) -> None:
        """Raise UserError if an evaluation that gave `metrics` can't be judged."""
        if not metrics and self.needs_evaluation:
            wanted = {"patience": self.patience, "goal": self.goal, "best_metric": self.metric}
            setting = next(name for name, value in wanted.items() if value is not None)
            raise UserError(
                f"trainer.{setting}: there is no validation part to judge by; give one (data.validation_fraction), or "
                "leave it out"
            )
        metric = self.metric or primary_metric
        if metrics and metric not in metrics:
            whose = "trainer.best_metric" if self.metric else "the task's primary_metric"
            known = nearest(metric, metrics) or ""
            raise UserError(f"{whose}: {metric!r} is not evaluated{known}; there are: {', '.join(metrics)}")

    def judge(
        self, metrics: Mapping[str, float], primary_metric: str, lower_is_better: Collection[str], progress: Progress
    ) -> bool:
        """Whether this evaluation is the best so far. `progress` keeps the best, and the patience used."""
        self.check(metrics, primary_metric)
        metric = self.metric or primary_metric
        progress.lower_is_better = metric in lower_is_better
        score, sign = metrics[metric], -1.0 if progress.lower_is_better else 1.0

        def gain(over: float | None) -> float:
            gained = math.inf if over is None else sign * (score - over)
            return gained if math.isfinite(score) else -math.inf  # NaN and infinity are never better

        if gain(progress.patience_score) > self.min_delta:
            progress.patience_score, progress.patience_used = score, 0
        else:
            progress.patience_used += 1
        if gain(progress.best_score) <= 0:
            return False
        progress.best_score, progress.best_step = score, progress.step
        return True

    def reached(self, progress: Progress) -> str | None:
        """What ends the run now, as its setting is called: "goal", "patience"; None if neither does."""
        if self.goal is not None and progress.best_score is not None:
            sign = -1.0 if progress.lower_is_better else 1.0
            if sign * (progress.best_score - self.goal) >= 0:
                return "goal"
        return "patience" if self.patience is not None and progress.patience_used >= self.patience else None
