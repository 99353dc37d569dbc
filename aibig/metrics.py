"""Metrics as pure functions over predictions, scikit-learn's where it has them. Knows no model and no task."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def classification_metrics(probabilities: NDArray[np.floating], targets: NDArray[np.integer]) -> dict[str, float]:
    """Accuracy, macro recall and F1, and log loss of `probabilities` (rows, classes) for class numbers (rows,).

    NaN throughout if a probability is: a model that has diverged.
    """
    from sklearn import metrics

    if not np.isfinite(probabilities).all():
        return dict.fromkeys(("accuracy", "recall", "f1", "log_loss"), math.nan)
    classes = np.arange(probabilities.shape[1])
    chosen = probabilities.argmax(1)
    averaged = {"labels": classes, "average": "macro", "zero_division": 0.0}
    return {
        "accuracy": float(metrics.accuracy_score(targets, chosen)),
        "recall": float(metrics.recall_score(targets, chosen, **averaged)),
        "f1": float(metrics.f1_score(targets, chosen, **averaged)),
        "log_loss": float(metrics.log_loss(targets, probabilities, labels=classes)),
    }


def regression_metrics(predictions: NDArray[np.floating], targets: NDArray[np.floating]) -> dict[str, float]:
    """Coefficient of determination, mean absolute error and root of the mean squared error; (rows, outputs) both.

    NaN throughout if a prediction is not finite.
    """
    from sklearn import metrics

    if not np.isfinite(predictions).all():
        return dict.fromkeys(("r2", "mae", "rmse"), math.nan)
    return {
        "r2": float(metrics.r2_score(targets, predictions)),
        "mae": float(metrics.mean_absolute_error(targets, predictions)),
        "rmse": float(metrics.root_mean_squared_error(targets, predictions)),
    }


def language_metrics(total_loss: float, tokens: int) -> dict[str, float]:
    """Mean loss per token in nats, and perplexity, its exponential."""
    loss = total_loss / tokens
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}


def return_metrics(returns: NDArray[np.floating], lengths: NDArray[np.integer]) -> dict[str, float]:
    """Mean, median and standard deviation of episodes' returns, and their mean length in env steps."""
    return {
        "mean_return": float(returns.mean()),
        "median_return": float(np.median(returns)),
        "std_return": float(returns.std()),
        "mean_length": float(lengths.mean()),
    }
