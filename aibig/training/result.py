"""The result of a run. Knows no trainer."""

from __future__ import annotations

from dataclasses import dataclass

from aibig.training.limits import Progress

INTERRUPTED = "interrupted"


@dataclass
class Result:
    """The result of a run.

    Args:
        metrics: test metrics of the final model; empty if there is no test split, or the run was interrupted.
        progress: progress at the end.
        stopped_by: setting that ended the run ("max_epochs", "patience"), or "interrupted".
    """

    metrics: dict[str, float]
    progress: Progress
    stopped_by: str

    @property
    def interrupted(self) -> bool:
        """Whether the user stopped the run."""
        return self.stopped_by == INTERRUPTED
