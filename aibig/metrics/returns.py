"""Metrics of an agent's episodes, as pure functions. Knows no model and no task.

E episodes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def return_metrics(returns: NDArray[np.floating], lengths: NDArray[np.integer]) -> dict[str, float]:
    """Mean, median, interquartile mean and standard deviation of the returns, and the mean episode length.

    The interquartile mean is that of the middle half of the returns (arXiv 2108.13264, section 4.3).

    Args:
        returns: sum of rewards of each episode, (E,).
        lengths: env steps of each episode, (E,).
    """
    quarter = len(returns) // 4
    return {
        "mean_return": float(returns.mean()),
        "median_return": float(np.median(returns)),
        "interquartile_mean_return": float(np.sort(returns)[quarter : len(returns) - quarter].mean()),
        "std_return": float(returns.std()),
        "mean_length": float(lengths.mean()),
    }
