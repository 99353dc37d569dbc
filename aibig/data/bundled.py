"""Datasets that ship inside the dependencies: nothing is downloaded."""

from __future__ import annotations

import pydoc_data.topics

from aibig.data.arrays import Arrays


def digits() -> Arrays:
    """1,797 handwritten digits of 8x8 pixels from 0 to 16, 10 classes (sklearn.datasets.load_digits)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return Arrays(bunch.data, bunch.target, [str(name) for name in bunch.target_names], list(bunch.feature_names))


def diabetes() -> Arrays:
    """442 patients, 10 measurements, the progress of their diabetes after a year (sklearn.datasets.load_diabetes)."""
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(scaled=False)
    return Arrays(bunch.data, bunch.target, feature_names=list(bunch.feature_names))


def python_docs() -> str:
    """The help topics of this Python (pydoc_data.topics): 0.5 to 0.7 MB of English, by version."""
    topics: dict[str, str] = pydoc_data.topics.topics
    return "\n\n".join(topics[name] for name in sorted(topics))
