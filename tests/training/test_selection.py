"""Which evaluation is the best, and when the run ends because of it."""

from __future__ import annotations

import math

import pytest

from aibig.errors import UserError
from aibig.training.limits import Progress
from aibig.training.selection import Selection


def judge_all(selection: Selection, scores: list[float], lower: bool = False) -> tuple[list[bool], list[int], Progress]:
    """Whether each evaluation is the best so far, the patience used after each, and the progress."""
    progress, is_best, patience_used = Progress(), [], []
    for step, score in enumerate(scores, 1):
        progress.step = step
        is_best.append(selection.update({"score": score}, "score", {"score"} if lower else (), progress))
        patience_used.append(progress.patience_used)
    return is_best, patience_used, progress


def test_the_direction_decides_and_what_is_not_finite_is_never_best() -> None:
    scores = [math.nan, 2.0, 3.0, 3.0, 1.0, math.inf, math.nan, -math.inf]
    best, used, progress = judge_all(Selection(), scores)
    assert best == [False, True, True, False, False, False, False, False]
    assert (progress.best_step, progress.best_score, used) == (3, 3.0, [1, 0, 0, 1, 2, 3, 4, 5])
    best, _, progress = judge_all(Selection(), scores, lower=True)
    assert best == [False, True, False, False, True, False, False, False] and progress.best_score == 1.0


def test_a_small_gain_is_the_best_but_does_not_renew_the_patience() -> None:
    selection = Selection(patience=2, min_delta=0.5)
    best, used, progress = judge_all(selection, [1.0, 1.4, 1.6, 1.9, 2.0])
    assert best == [True] * 5 and used == [0, 1, 0, 1, 2] and selection.stop_reason(progress) == "patience"
    assert progress.best_score == 2.0 and progress.patience_score == 1.6
    assert Selection().stop_reason(progress) is None, "without patience a run waits for ever"


@pytest.mark.parametrize(("lower", "reached"), [(False, [None, None, "goal"]), (True, ["goal", "goal", "goal"])])
def test_a_goal_ends_the_run_in_the_metrics_direction(lower: bool, reached: list[str | None]) -> None:
    selection, progress = Selection(goal=3.0), Progress()
    reached_limits = []
    for score in (1.0, 2.9, 3.0):
        selection.update({"score": score}, "score", {"score"} if lower else (), progress)
        reached_limits.append(selection.stop_reason(progress))
    assert reached_limits == reached
    assert Selection(goal=3.1).stop_reason(progress) == ("goal" if lower else None), "a resume may ask for more"


def test_what_is_not_evaluated_is_refused_with_what_is() -> None:
    with pytest.raises(UserError, match=r"best_metric: 'acuracy' .*did you mean 'accuracy'\?; there are: accuracy, f1"):
        Selection("acuracy").check({"accuracy": 1.0, "f1": 1.0}, "accuracy")
    with pytest.raises(UserError, match=r"trainer.patience: there is no validation split"):
        Selection(patience=3).check({}, "accuracy")
    with pytest.raises(UserError, match=r"the task's primary_metric: 'loss' is not evaluated; there are: f1"):
        Selection().check({"f1": 1.0}, "loss")
    Selection().check({}, "accuracy")
