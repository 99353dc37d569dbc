"""Metrics against scikit-learn's, and against their definitions, plainly written."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as judge

from aibig.metrics import functions as metrics

pytestmark = pytest.mark.filterwarnings("error")


def guesses(classes: int, rows: int, kinds: int | None = None) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities that know something, many of them equal, and targets of the first `kinds` classes."""
    generator = np.random.default_rng(classes + rows)
    targets = generator.integers(kinds or classes, size=rows)
    raw = generator.integers(1, 6, (rows, classes)).astype(float)
    raw[np.arange(rows), targets] += generator.integers(0, 4, rows)
    return raw / raw.sum(1, keepdims=True), targets


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("rows", [12, 300])
def test_classification_is_what_scikit_learn_says(classes: int, rows: int) -> None:
    probabilities, targets = guesses(classes, rows)
    targets[:classes] = range(classes)  # scikit-learn's ROC AUC wants each class
    chosen = probabilities.argmax(1)
    found = metrics.classification_metrics(probabilities, targets)
    assert tuple(found) == metrics.CLASSIFICATION
    expected = {
        "accuracy": judge.accuracy_score(targets, chosen),
        "balanced_accuracy": judge.balanced_accuracy_score(targets, chosen),
        "log_loss": judge.log_loss(targets, probabilities),
    }
    for name, score in (
        ("precision", judge.precision_score),
        ("recall", judge.recall_score),
        ("f1", judge.f1_score),
    ):
        expected[name] = score(targets, chosen, average="macro", zero_division=0.0)
        expected[f"{name}_weighted"] = score(targets, chosen, average="weighted", zero_division=0.0)
    if classes == 2:
        expected["roc_auc"] = judge.roc_auc_score(targets, probabilities[:, 1])
        expected["average_precision"] = judge.average_precision_score(targets, probabilities[:, 1])
        expected["brier"] = judge.brier_score_loss(targets, probabilities[:, 1])
    else:
        one_hot = np.eye(classes)[targets]
        expected["roc_auc"] = judge.roc_auc_score(targets, probabilities, multi_class="ovr")
        expected["average_precision"] = judge.average_precision_score(one_hot, probabilities)
        expected["brier"] = np.square(probabilities - one_hot).sum(1).mean()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


def test_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [1.0, 0.0]])
    found = metrics.calibration_error(probabilities, np.array([0, 1, 1, 0]))  # bins: two of 0.9, one of 0.6, one of 1
    assert found == pytest.approx((abs(1.8 - 1) + abs(0.6 - 1) + 0) / 4)
    border = np.array([[0.4, 0.6], [0.38, 0.62]])  # 0.6 is the end of the bin below, since 15 * 0.6 = 9
    assert metrics.calibration_error(border, np.array([0, 1])) == pytest.approx((0.6 + 0.38) / 2)


def test_a_class_that_never_comes_is_left_out_of_the_means() -> None:
    probabilities, targets = guesses(4, 50, kinds=3)
    probabilities[:, 3] = 0.0
    probabilities /= probabilities.sum(1, keepdims=True)
    assert metrics.classification_metrics(probabilities, targets) == pytest.approx(
        metrics.classification_metrics(probabilities[:, :3], targets)
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_of_one_class_alone_no_ranking_is_judged(classes: int) -> None:
    probabilities, targets = guesses(classes, 20, kinds=1)
    found = metrics.classification_metrics(probabilities, targets)
    assert not {"roc_auc", "average_precision"} & {*found}
    assert all(math.isfinite(value) for value in found.values())


def test_a_diverged_model_has_no_metrics() -> None:
    found = metrics.classification_metrics(np.array([[np.nan, 0.5]]), np.array([0]))
    assert tuple(found) == metrics.CLASSIFICATION and all(math.isnan(value) for value in found.values())


def test_a_certain_mistake_costs_a_finite_loss() -> None:
    found = metrics.classification_metrics(np.array([[1.0, 0.0]], np.float32), np.array([1]))
    assert found["log_loss"] == pytest.approx(-math.log(np.finfo(np.float32).eps))


def test_per_class() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.4, 0.1]])
    rows = metrics.per_class(probabilities, np.array([0, 1, 1]), ["a", "b", "c"])
    assert rows[0] == {"name": "a", "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1}
    assert rows[1] == {"name": "b", "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert rows[2] == {"name": "c", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


def test_regression() -> None:
    predictions, targets = np.array([[1.0], [2.0], [4.0]]), np.array([[1.0], [3.0], [2.0]])
    found = metrics.regression_metrics(predictions, targets)
    assert found["mae"] == 1.0
    assert found["rmse"] == pytest.approx(math.sqrt(5 / 3))
    assert found["r2"] == pytest.approx(1 - 5 / 2)
    assert set(metrics.regression_metrics(predictions[:1], targets[:1])) == {"mae", "rmse"}


def test_language() -> None:
    assert metrics.language_metrics(20.0, 10) == {"loss": 2.0, "perplexity": pytest.approx(math.exp(2))}
    assert metrics.language_metrics(20.0, 10, 40)["bits_per_byte"] == pytest.approx(20 / math.log(2) / 40)


def test_returns() -> None:
    found = metrics.return_metrics(np.array([1.0, 2.0, 6.0]), np.array([10, 20, 30]))
    assert found["mean_return"] == 3 and found["median_return"] == 2 and found["mean_length"] == 20
    assert found["std_return"] == pytest.approx(math.sqrt((4 + 1 + 9) / 3))
    eight = np.array([100.0, 3, 1, 2, 4, 5, 6, -100])
    assert metrics.return_metrics(eight, eight.astype(int))["interquartile_mean_return"] == (2 + 3 + 4 + 5) / 4


def test_every_metric_is_explained() -> None:
    returns = metrics.return_metrics(np.zeros(1), np.zeros(1, int))
    names = {*metrics.CLASSIFICATION, "r2", "mae", "rmse", *metrics.language_metrics(1.0, 1, 1), *returns}
    assert names == {*metrics.MEANINGS}
    assert names > metrics.LOWER_IS_BETTER
