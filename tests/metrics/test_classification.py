"""Classification metrics against scikit-learn's, and against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as reference

from aibig.metrics import classification

pytestmark = pytest.mark.filterwarnings("error")


def predictions(classes: int, rows: int, occurring: int | None = None) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Informative probabilities with many ties, and targets of the first `occurring` classes."""
    generator = np.random.default_rng(classes + rows)
    targets = generator.integers(occurring or classes, size=rows)
    raw = generator.integers(1, 6, (rows, classes)).astype(float)
    raw[np.arange(rows), targets] += generator.integers(0, 4, rows)
    return raw / raw.sum(1, keepdims=True), targets


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("rows", [12, 300])
def test_classification_is_what_scikit_learn_says(classes: int, rows: int) -> None:
    probabilities, targets = predictions(classes, rows)
    targets[:classes] = range(classes)  # scikit-learn's ROC AUC wants each class
    predicted = probabilities.argmax(1)
    metrics = classification.classification_metrics(probabilities, targets)
    assert tuple(metrics) == classification.CLASSIFICATION
    expected = {
        "accuracy": reference.accuracy_score(targets, predicted),
        "balanced_accuracy": reference.balanced_accuracy_score(targets, predicted),
        "log_loss": reference.log_loss(targets, probabilities),
    }
    for name, score in (
        ("precision", reference.precision_score),
        ("recall", reference.recall_score),
        ("f1", reference.f1_score),
    ):
        expected[name] = score(targets, predicted, average="macro", zero_division=0.0)
        expected[f"{name}_weighted"] = score(targets, predicted, average="weighted", zero_division=0.0)
    if classes == 2:
        expected["roc_auc"] = reference.roc_auc_score(targets, probabilities[:, 1])
        expected["average_precision"] = reference.average_precision_score(targets, probabilities[:, 1])
        expected["brier"] = reference.brier_score_loss(targets, probabilities[:, 1])
    else:
        one_hot = np.eye(classes)[targets]
        expected["roc_auc"] = reference.roc_auc_score(targets, probabilities, multi_class="ovr")
        expected["average_precision"] = reference.average_precision_score(one_hot, probabilities)
        expected["brier"] = np.square(probabilities - one_hot).sum(1).mean()
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, abs=1e-12), name


def test_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [1.0, 0.0]])
    error = classification.calibration_error(
        probabilities, np.array([0, 1, 1, 0])
    )  # bins: two of 0.9, one of 0.6, one of 1
    assert error == pytest.approx((abs(1.8 - 1) + abs(0.6 - 1) + 0) / 4)
    edge = np.array([[0.4, 0.6], [0.38, 0.62]])  # 0.6 is the end of the bin below, since 15 * 0.6 = 9
    assert classification.calibration_error(edge, np.array([0, 1])) == pytest.approx((0.6 + 0.38) / 2)


def test_a_class_that_never_occurs_is_left_out_of_the_means() -> None:
    probabilities, targets = predictions(4, 50, occurring=3)
    probabilities[:, 3] = 0.0
    probabilities /= probabilities.sum(1, keepdims=True)
    assert classification.classification_metrics(probabilities, targets) == pytest.approx(
        classification.classification_metrics(probabilities[:, :3], targets)
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_a_single_class_has_no_ranking_metrics(classes: int) -> None:
    probabilities, targets = predictions(classes, 20, occurring=1)
    metrics = classification.classification_metrics(probabilities, targets)
    assert not {"roc_auc", "average_precision"} & {*metrics}
    assert all(math.isfinite(value) for value in metrics.values())


def test_a_diverged_model_has_no_metrics() -> None:
    metrics = classification.classification_metrics(np.array([[np.nan, 0.5]]), np.array([0]))
    assert tuple(metrics) == classification.CLASSIFICATION and all(math.isnan(value) for value in metrics.values())


def test_a_certain_mistake_costs_a_finite_loss() -> None:
    metrics = classification.classification_metrics(np.array([[1.0, 0.0]], np.float32), np.array([1]))
    assert metrics["log_loss"] == pytest.approx(-math.log(np.finfo(np.float32).eps))


def test_per_class() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.4, 0.1]])
    rows = classification.per_class(probabilities, np.array([0, 1, 1]), ["a", "b", "c"])
    assert rows[0] == {"name": "a", "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1}
    assert rows[1] == {"name": "b", "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert rows[2] == {"name": "c", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
