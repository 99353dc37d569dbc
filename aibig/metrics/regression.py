"""Metrics of predicted values, as pure functions. Knows no model and no task.

N rows, K outputs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def regression_metrics(predictions: NDArray[np.floating], targets: NDArray[np.floating]) -> dict[str, float]:
    """Coefficient of determination, mean absolute error and root of the mean squared error, as scikit-learn's.

    Args:
        predictions: (N, K).
        targets: (N, K), in the same units.

    Returns:
        Metric by name; without r2 for a single row, where it is undefined. All are NaN if a prediction is not finite.
    """
    import sklearn
    from sklearn import metrics

    if not np.isfinite(predictions).all():
        return dict.fromkeys(("r2", "mae", "rmse"), math.nan)
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        r2 = {"r2": float(metrics.r2_score(targets, predictions))} if len(targets) > 1 else {}
        return {
            **r2,
            "mae": float(metrics.mean_absolute_error(targets, predictions)),
            "rmse": float(metrics.root_mean_squared_error(targets, predictions)),
        }
