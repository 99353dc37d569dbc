"""Datasets that are part of the dependencies: nothing is downloaded."""

from __future__ import annotations

import pydoc_data.topics
from typing import Any

from aibig.data.arrays import Arrays


def digits() -> Arrays:
    """1,797 handwritten digits of 8x8 pixels from 0 to 16, 10 classes (sklearn.datasets.load_digits)."""
    from sklearn.datasets import load_digits

    return _classes(load_digits())


def breast_cancer() -> Arrays:
    """569 tumours, 30 measurements of their cells, malignant or benign (sklearn.datasets.load_breast_cancer)."""
    from sklearn.datasets import load_breast_cancer

    return _classes(load_breast_cancer())


def wine() -> Arrays:
    """178 wines of 3 growers, 13 chemical measurements (sklearn.datasets.load_wine)."""
    from sklearn.datasets import load_wine

    return _classes(load_wine())


def iris() -> Arrays:
    """150 irises of 3 species, 4 lengths of their leaves in cm (sklearn.datasets.load_iris)."""
    from sklearn.datasets import load_iris

    return _classes(load_iris())


def diabetes() -> Arrays:
    """442 patients, 10 measurements, the progress of their diabetes after a year (sklearn.datasets.load_diabetes)."""
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(scaled=False)
    return Arrays(bunch.data, bunch.target, feature_names=list(bunch.feature_names))


def python_docs() -> str:
    """The help topics of this Python (pydoc_data.topics): 0.5 to 0.7 MB of English, by version."""
    topics: dict[str, str] = pydoc_data.topics.topics
    return "\n\n".join(topics[name] for name in sorted(topics))


def _classes(bunch: Any) -> Arrays:
    names = [str(name) for name in bunch.target_names]
    return Arrays(bunch.data, bunch.target, names, [str(name) for name in bunch.feature_names])
