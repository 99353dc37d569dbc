"""Metrics as pure functions over predictions. Knows no model and no task.

They are scikit-learn's where it has them, and a test holds each to it. What stands here in NumPy instead is what
scikit-learn takes 25 ms for on 270 rows (ROC AUC, average precision, log loss, Brier): too long for what every
evaluation of a small run measures, and a bootstrap a thousand times. N rows, C classes, K outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOWER_IS_BETTER: frozenset[str] = frozenset(
    {"loss", "log_loss", "brier", "calibration_error", "mae", "rmse", "perplexity", "bits_per_byte"}
)

MEANINGS = {  # in a reader's words
    "accuracy": "share of rows whose likeliest class is the true one",
    "balanced_accuracy": "mean over classes of the share that is found",
    "precision": "how many of a class's predictions are right; mean over classes",
    "recall": "how many of a class's rows are found; mean over classes",
    "f1": "harmonic mean of precision and recall; mean over classes",
    "precision_weighted": "precision, classes weighted by their rows",
    "recall_weighted": "recall, classes weighted by their rows",
    "f1_weighted": "F1, classes weighted by their rows",
    "roc_auc": "chance that a row of a class is ranked above one that is not; mean over classes",
    "average_precision": "area under the precision-recall curve; mean over classes",
    "log_loss": "mean of -log(probability of the true class), in nats",
    "brier": "mean squared error of the probabilities",
    "calibration_error": "mean gap between confidence and accuracy, 15 bins",
    "r2": "share of the targets' variance that is explained",
    "mae": "mean absolute error, in the targets' units",
    "rmse": "root of the mean squared error, in the targets' units",
    "loss": "mean cross-entropy of a token, in nats",
    "perplexity": "e to the power of the loss",
    "bits_per_byte": "bits that encoding a byte of the text would take",
    "mean_return": "mean of the episodes' sums of rewards",
    "median_return": "median of the episodes' returns",
    "interquartile_mean_return": "mean of the middle half of the returns",
    "std_return": "standard deviation of the returns",
    "mean_length": "env steps of an episode",
}

CLASSIFICATION = (
    *("accuracy", "balanced_accuracy", "precision", "recall", "f1"),
    *("precision_weighted", "recall_weighted", "f1_weighted"),
    *("roc_auc", "average_precision", "log_loss", "brier", "calibration_error"),
)


def classification_metrics(probabilities: NDArray[np.floating], targets: NDArray[np.integer]) -> dict[str, float]:
    """The metrics named in CLASSIFICATION of `probabilities` (N, C) for class numbers (N,).

    Plain precision, recall and F1 are means over the classes that come in the targets or are predicted;
    balanced_accuracy over those that come in the targets. roc_auc and average_precision are means of one class
    against the rest, over the classes that come and are not all there is; of two classes, those of the second. Where
    no class is left for that, since all rows are of one, these two are left out.

    NaN throughout if a probability is not finite: a model that has diverged.
    """
    if not np.isfinite(probabilities).all():
        return dict.fromkeys(CLASSIFICATION, math.nan)
    precision, recall, f1, support = _scores_by_class(probabilities.argmax(1), targets)
    share = support / support.sum()
    found = {
        "accuracy": float(share @ recall),
        "balanced_accuracy": float(recall[support > 0].mean()),
        **{name: float(one.mean()) for name, one in (("precision", precision), ("recall", recall), ("f1", f1))},
        **{
            f"{name}_weighted": float(share @ one)
            for name, one in (("precision", precision), ("recall", recall), ("f1", f1))
        },
    }
    columns = ranked_classes(targets, probabilities.shape[1])
    if columns:
        ranked = [ranking_scores(probabilities[:, one], targets == one) for one in columns]
        found["roc_auc"], found["average_precision"] = (float(one) for one in np.mean(ranked, 0))
    return {
        **found,
        "log_loss": log_loss(probabilities, targets),
        "brier": brier(probabilities, targets),
        "calibration_error": calibration_error(probabilities, targets),
    }


def per_class(
    probabilities: NDArray[np.floating], targets: NDArray[np.integer], class_names: list[str]
) -> list[dict[str, Any]]:
    """A row for each class, also for one that never comes: name, precision, recall, f1, and its rows (support)."""
    labels = np.arange(probabilities.shape[1])
    table = zip(class_names, *_scores_by_class(probabilities.argmax(1), targets, labels), strict=True)
    return [
        {"name": name, "precision": float(precision), "recall": float(recall), "f1": float(f1), "support": int(rows)}
        for name, precision, recall, f1, rows in table
    ]


def _scores_by_class(
    chosen: NDArray[np.integer], targets: NDArray[np.integer], labels: NDArray[np.integer] | None = None
) -> Any:
    """Precision, recall, F1 and support of each class: of `labels`, by default of those that come or are chosen."""
    import sklearn
    from sklearn.metrics import precision_recall_fscore_support

    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):  # half of its time
        return precision_recall_fscore_support(targets, chosen, labels=labels, zero_division=0.0)


def ranked_classes(targets: NDArray[np.integer], classes: int) -> list[int]:
    """The classes that a ranking can be judged for: they come, and others too. Of two classes, the second."""
    counts = np.bincount(targets, minlength=classes)
    there = [one for one in range(classes) if 0 < counts[one] < len(targets)]
    return [one for one in there if one == 1] if classes == 2 else there


def ranking_scores(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Area under the ROC curve, and average precision, of `scores` (N,) for the rows that are `positive` (N,)."""
    order = np.argsort(-scores)
    last = np.append(np.diff(scores[order]) != 0, True)  # of rows with equal scores, only the last is a threshold
    true = np.cumsum(positive[order])[last]
    chosen = np.flatnonzero(last) + 1
    false = chosen - true
    auc = np.trapezoid(np.append(0, true), np.append(0, false)) / (true[-1] * false[-1])
    average_precision = np.diff(true, prepend=0) @ (true / chosen) / true[-1]
    return float(auc), float(average_precision)


def log_loss(probabilities: NDArray[np.floating], targets: NDArray[np.integer]) -> float:
    """Mean of -log(probability of the true class), in nats; a probability counts as at least its type's epsilon."""
    chosen = probabilities[np.arange(len(targets)), targets]
    return float(-np.log(chosen.clip(np.finfo(chosen.dtype).eps, 1.0).astype(np.float64)).mean())


def brier(probabilities: NDArray[np.floating], targets: NDArray[np.integer]) -> float:
    """Mean over rows of the squared distance to the true class, from 0 to 2; of two classes half of it, 0 to 1."""
    distance = probabilities.astype(np.float64)
    distance[np.arange(len(targets)), targets] -= 1.0
    total = float(np.square(distance).sum(1).mean())
    return total / 2 if probabilities.shape[1] == 2 else total


def calibration_error(probabilities: NDArray[np.floating], targets: NDArray[np.integer], bins: int = 15) -> float:
    """Expected calibration error: the mean gap of confidence and accuracy (arXiv 1706.04599, equation 5)."""
    confidence, right, rows = calibration_bins(probabilities, targets, bins)
    return float(np.abs(confidence - right).sum() / rows.sum())


def calibration_bins(
    probabilities: NDArray[np.floating], targets: NDArray[np.integer], bins: int = 15
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Sums of confidence (the largest probability) and of right answers, and rows, in equal bins of confidence."""
    confidence = probabilities.max(1)
    place = np.minimum(np.ceil(confidence * bins).astype(np.int64) - 1, bins - 1).clip(0)
    right = probabilities.argmax(1) == targets
    sums = (np.bincount(place, weights, minlength=bins) for weights in (confidence, right))
    return (*sums, np.bincount(place, minlength=bins))  # type: ignore[return-value]


def regression_metrics(predictions: NDArray[np.floating], targets: NDArray[np.floating]) -> dict[str, float]:
    """Coefficient of determination, mean absolute error and root of the mean squared error; (N, K) both.

    r2 is left out for a single row, where it means nothing. NaN throughout if a prediction is not finite.
    """
    import sklearn
    from sklearn import metrics

    if not np.isfinite(predictions).all():
        return dict.fromkeys(("r2", "mae", "rmse"), math.nan)
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        explained = {"r2": float(metrics.r2_score(targets, predictions))} if len(targets) > 1 else {}
        return {
            **explained,
            "mae": float(metrics.mean_absolute_error(targets, predictions)),
            "rmse": float(metrics.root_mean_squared_error(targets, predictions)),
        }


def language_metrics(total_loss: float, tokens: int, text_bytes: int | None = None) -> dict[str, float]:
    """Mean loss per token in nats, perplexity, its exponential, and bits per byte of the text, where those are known.

    total_loss: in nats, of all tokens together.
    """
    loss = total_loss / tokens
    per_byte = {"bits_per_byte": total_loss / math.log(2) / text_bytes} if text_bytes else {}
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), **per_byte}


def return_metrics(returns: NDArray[np.floating], lengths: NDArray[np.integer]) -> dict[str, float]:
    """Mean, median, interquartile mean and standard deviation of episodes' returns; their mean length in env steps.

    The interquartile mean is that of the middle half (arXiv 2108.13264, section 4.3).
    """
    quarter = len(returns) // 4
    return {
        "mean_return": float(returns.mean()),
        "median_return": float(np.median(returns)),
        "interquartile_mean_return": float(np.sort(returns)[quarter : len(returns) - quarter].mean()),
        "std_return": float(returns.std()),
        "mean_length": float(lengths.mean()),
    }


def metrics_line(metrics: Mapping[str, float | None], most: int = 5) -> str:
    """The first `most` metrics in a line; result.json and `aibig evaluate` have all. None is not finite."""
    values = {name: "not finite" if value is None else f"{value:.4g}" for name, value in metrics.items()}
    some = [f"{name} {value}" for name, value in values.items()][:most]
    return ", ".join(some) + (", ..." if len(values) > len(some) else "") or "none"
