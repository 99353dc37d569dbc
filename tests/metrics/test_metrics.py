"""Regression, language and return metrics against their definitions, and the names of all metrics."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aibig.metrics.classification import CLASSIFICATION
from aibig.metrics.language import language_metrics
from aibig.metrics.names import LOWER_IS_BETTER, MEANINGS
from aibig.metrics.regression import regression_metrics
from aibig.metrics.returns import return_metrics

pytestmark = pytest.mark.filterwarnings("error")


def test_regression() -> None:
    predictions, targets = np.array([[1.0], [2.0], [4.0]]), np.array([[1.0], [3.0], [2.0]])
    metrics = regression_metrics(predictions, targets)
    assert metrics["mae"] == 1.0
    assert metrics["rmse"] == pytest.approx(math.sqrt(5 / 3))
    assert metrics["r2"] == pytest.approx(1 - 5 / 2)
    assert set(regression_metrics(predictions[:1], targets[:1])) == {"mae", "rmse"}


def test_language() -> None:
    assert language_metrics(20.0, 10) == {"loss": 2.0, "perplexity": pytest.approx(math.exp(2))}
    assert language_metrics(20.0, 10, 40)["bits_per_byte"] == pytest.approx(20 / math.log(2) / 40)


def test_returns() -> None:
    metrics = return_metrics(np.array([1.0, 2.0, 6.0]), np.array([10, 20, 30]))
    assert metrics["mean_return"] == 3 and metrics["median_return"] == 2 and metrics["mean_length"] == 20
    assert metrics["std_return"] == pytest.approx(math.sqrt((4 + 1 + 9) / 3))
    eight = np.array([100.0, 3, 1, 2, 4, 5, 6, -100])
    assert return_metrics(eight, eight.astype(int))["interquartile_mean_return"] == (2 + 3 + 4 + 5) / 4


def test_every_metric_is_explained() -> None:
    returns = return_metrics(np.zeros(1), np.zeros(1, int))
    names = {*CLASSIFICATION, "r2", "mae", "rmse", *language_metrics(1.0, 1, 1), *returns}
    assert names == {*MEANINGS}
    assert names > LOWER_IS_BETTER
