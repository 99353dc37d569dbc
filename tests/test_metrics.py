"""Metrics against their definitions, plainly written."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aibig import metrics


def test_classification() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.4, 0.1], [0.2, 0.2, 0.6]])
    found = metrics.classification_metrics(probabilities, np.array([0, 1, 1, 2]))
    assert found["accuracy"] == 0.75
    assert found["recall"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert found["f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert found["log_loss"] == pytest.approx(-np.log([0.7, 0.6, 0.4, 0.6]).mean())


def test_a_class_that_never_comes_is_no_error() -> None:
    found = metrics.classification_metrics(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 0]))
    assert found["accuracy"] == 1.0


def test_regression() -> None:
    predictions, targets = np.array([[1.0], [2.0], [4.0]]), np.array([[1.0], [3.0], [2.0]])
    found = metrics.regression_metrics(predictions, targets)
    assert found["mae"] == 1.0
    assert found["rmse"] == pytest.approx(math.sqrt(5 / 3))
    assert found["r2"] == pytest.approx(1 - 5 / 2)


def test_language() -> None:
    assert metrics.language_metrics(20.0, 10) == {"loss": 2.0, "perplexity": pytest.approx(math.exp(2))}


def test_returns() -> None:
    found = metrics.return_metrics(np.array([1.0, 2.0, 6.0]), np.array([10, 20, 30]))
    assert found["mean_return"] == 3 and found["median_return"] == 2 and found["mean_length"] == 20
    assert found["std_return"] == pytest.approx(math.sqrt((4 + 1 + 9) / 3))
