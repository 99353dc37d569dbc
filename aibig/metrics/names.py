"""The names of metrics: meanings, which are better when lower, and how a line shows them. Imports no NumPy."""

from __future__ import annotations

from collections.abc import Mapping

LOWER_IS_BETTER: frozenset[str] = frozenset(
    {"loss", "log_loss", "brier", "calibration_error", "mae", "rmse", "perplexity", "bits_per_byte"}
)

MEANINGS = {  # shown beside a metric in reports
    "accuracy": "share of rows whose most probable class is the true one",
    "balanced_accuracy": "recall, mean over classes",
    "precision": "share of a class's predictions that are right; mean over classes",
    "recall": "share of a class's rows that are predicted as such; mean over classes",
    "f1": "harmonic mean of precision and recall; mean over classes",
    "precision_weighted": "precision, classes weighted by their rows",
    "recall_weighted": "recall, classes weighted by their rows",
    "f1_weighted": "F1, classes weighted by their rows",
    "roc_auc": "chance that a row of a class is ranked above a row of another class; mean over classes",
    "average_precision": "area under the precision-recall curve; mean over classes",
    "log_loss": "mean of -log(probability of the true class), in nats",
    "brier": "mean squared error of the probabilities",
    "calibration_error": "mean gap between confidence and accuracy, 15 bins",
    "r2": "share of the targets' variance that is explained",
    "mae": "mean absolute error, in the targets' units",
    "rmse": "root of the mean squared error, in the targets' units",
    "loss": "mean cross-entropy of a token, in nats",
    "perplexity": "e to the power of the loss",
    "bits_per_byte": "loss in bits per UTF-8 byte of the text",
    "mean_return": "mean of the episodes' returns (sums of rewards)",
    "median_return": "median of the episodes' returns",
    "interquartile_mean_return": "mean of the middle half of the returns",
    "std_return": "standard deviation of the returns",
    "mean_length": "env steps of an episode",
}


def metrics_line(metrics: Mapping[str, float | None], most: int = 5) -> str:
    """The first metrics as a line of text; result.json and `aibig evaluate` have all.

    Args:
        metrics: value by name; None for a value that is not finite.
        most: largest number of metrics to show.
    """
    values = {name: "not finite" if value is None else f"{value:.4g}" for name, value in metrics.items()}
    shown = [f"{name} {value}" for name, value in values.items()][:most]
    return ", ".join(shown) + (", ..." if len(values) > len(shown) else "") or "none"
