"""Metrics of predicted class probabilities, as pure functions. Knows no model and no task.

They equal scikit-learn's, where it has them, and are tested against it. ROC AUC, average precision, log loss and Brier
score are written in NumPy, since scikit-learn needs 25 ms for them on 270 rows: too long for each evaluation of a small
run, and for a bootstrap of a thousand resamples. N rows, C classes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

CLASSIFICATION = (
    *("accuracy", "balanced_accuracy", "precision", "recall", "f1"),
    *("precision_weighted", "recall_weighted", "f1_weighted"),
    *("roc_auc", "average_precision", "log_loss", "brier", "calibration_error"),
)


def classification_metrics(probabilities: NDArray[np.floating], targets: NDArray[np.integer]) -> dict[str, float]:
    """The metrics named in CLASSIFICATION.

    Precision, recall and F1 are macro averages over the classes that occur in the targets or in the predictions;
    balanced_accuracy averages over the classes that occur in the targets. roc_auc and average_precision are macro
    averages of one class against the rest, over the classes that some rows have and others lack; with two classes they
    are of the second. They are left out if all rows are of one class.

    Args:
        probabilities: probabilities of the classes, (N, C).
        targets: true class indices, (N,).

    Returns:
        Metric by name; all are NaN if a probability is not finite, as from a diverged model.
    """
    if not np.isfinite(probabilities).all():
        return dict.fromkeys(CLASSIFICATION, math.nan)
    *scores, support = _scores_by_class(probabilities.argmax(1), targets)
    by_name = dict(zip(("precision", "recall", "f1"), scores, strict=True))
    share = support / support.sum()
    metrics = {
        "accuracy": float(share @ by_name["recall"]),
        "balanced_accuracy": float(by_name["recall"][support > 0].mean()),
        **{name: float(values.mean()) for name, values in by_name.items()},
        **{f"{name}_weighted": float(share @ values) for name, values in by_name.items()},
    }
    classes = ranked_classes(targets, probabilities.shape[1])
    if classes:
        scores = [ranking_scores(probabilities[:, index], targets == index) for index in classes]
        metrics["roc_auc"], metrics["average_precision"] = map(float, np.mean(scores, 0))
    return {
        **metrics,
        "log_loss": log_loss(probabilities, targets),
        "brier": brier(probabilities, targets),
        "calibration_error": calibration_error(probabilities, targets),
    }


def per_class(
    probabilities: NDArray[np.floating], targets: NDArray[np.integer], class_names: list[str]
) -> list[dict[str, Any]]:
    """Precision, recall, F1 and support (number of rows) of each class, also of classes that never occur.

    Args:
        probabilities: probabilities of the classes, (N, C).
        targets: true class indices, (N,).
        class_names: names of the C classes.
    """
    labels = np.arange(probabilities.shape[1])
    table = zip(class_names, *_scores_by_class(probabilities.argmax(1), targets, labels), strict=True)
    return [
        {"name": name, "precision": float(precision), "recall": float(recall), "f1": float(f1), "support": int(support)}
        for name, precision, recall, f1, support in table
    ]


def _scores_by_class(
    predictions: NDArray[np.integer], targets: NDArray[np.integer], labels: NDArray[np.integer] | None = None
) -> Any:
    """Precision, recall, F1 and support of each of `labels`, by default of the classes that occur or are predicted."""
    import sklearn
    from sklearn.metrics import precision_recall_fscore_support

    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):  # half of its time
        return precision_recall_fscore_support(targets, predictions, labels=labels, zero_division=0.0)


def ranked_classes(targets: NDArray[np.integer], classes: int) -> list[int]:
    """The classes for which a ranking metric is defined: some rows have them, others lack them. Of two, the second.

    Args:
        targets: true class indices, (N,).
        classes: number of classes, C.
    """
    counts = np.bincount(targets, minlength=classes)
    defined = [index for index in range(classes) if 0 < counts[index] < len(targets)]
    return [index for index in defined if index == 1] if classes == 2 else defined


def ranking_scores(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Area under the ROC curve, and average precision, of a binary ranking.

    Args:
        scores: higher for rows that are more likely positive, (N,).
        positive: whether each row is positive, (N,).
    """
    order = np.argsort(-scores)
    last = np.append(np.diff(scores[order]) != 0, True)  # of rows with equal scores, only the last is a threshold
    true_positives = np.cumsum(positive[order])[last]
    predicted_positives = np.flatnonzero(last) + 1
    false_positives = predicted_positives - true_positives
    area = np.trapezoid(np.append(0, true_positives), np.append(0, false_positives))
    precision = true_positives / predicted_positives
    average_precision = np.diff(true_positives, prepend=0) @ precision / true_positives[-1]
    return float(area / (true_positives[-1] * false_positives[-1])), float(average_precision)


def log_loss(probabilities: NDArray[np.floating], targets: NDArray[np.integer]) -> float:
    """Mean of -log(probability of the true class), in nats; probabilities are clipped at their dtype's epsilon.

    Args:
        probabilities: probabilities of the classes, (N, C).
        targets: true class indices, (N,).
    """
    likelihoods = probabilities[np.arange(len(targets)), targets]
    return float(-np.log(likelihoods.clip(np.finfo(likelihoods.dtype).eps, 1.0).astype(np.float64)).mean())


def brier(probabilities: NDArray[np.floating], targets: NDArray[np.integer]) -> float:
    """Brier score: mean squared distance to the one-hot targets, from 0 to 2; half of it for two classes, 0 to 1.

    Args:
        probabilities: probabilities of the classes, (N, C).
        targets: true class indices, (N,).
    """
    distance = probabilities.astype(np.float64)
    distance[np.arange(len(targets)), targets] -= 1.0
    total = float(np.square(distance).sum(1).mean())
    return total / 2 if probabilities.shape[1] == 2 else total


def calibration_error(probabilities: NDArray[np.floating], targets: NDArray[np.integer], bins: int = 15) -> float:
    """Expected calibration error: mean gap between confidence and accuracy (arXiv 1706.04599, equation 5).

    Args:
        probabilities: probabilities of the classes, (N, C).
        targets: true class indices, (N,).
        bins: number of bins of equal width, by confidence.
    """
    confidence, correct, rows = calibration_bins(probabilities, targets, bins)
    return float(np.abs(confidence - correct).sum() / rows.sum())


def calibration_bins(
    probabilities: NDArray[np.floating], targets: NDArray[np.integer], bins: int = 15
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Rows binned by confidence, which is the largest probability.

    Args:
        probabilities: probabilities of the classes, (N, C).
        targets: true class indices, (N,).
        bins: number of bins of equal width, by confidence.

    Returns:
        Of each bin the sum of confidence, the number of correct predictions, and the number of rows.
    """
    confidence = probabilities.max(1)
    index = np.minimum(np.ceil(confidence * bins).astype(np.int64) - 1, bins - 1).clip(0)
    correct = probabilities.argmax(1) == targets
    sums = (np.bincount(index, weights, minlength=bins) for weights in (confidence, correct))
    return (*sums, np.bincount(index, minlength=bins))  # type: ignore[return-value]
