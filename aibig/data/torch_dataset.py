"""Any map-style torch Dataset as samples: of what it returns, only (features, target) is looked at."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aibig.data.samples import Samples
from aibig.data.splits import predefined_rows
from aibig.errors import UserError


def dataset_samples(
    train: Any, *, validation: Any = None, test: Any = None, class_names: list[str] | None = None
) -> DatasetSamples:
    """The samples of map-style torch Datasets, for SampleData, whose worker processes read them.

    Targets are the Dataset's `targets`; without them every sample is read once, and that is said. Whatever a Dataset
    draws from the global generators (torch's, NumPy's, Python's) is seeded for each sample. On machines that spawn
    processes, and from Python 3.14 on, it must be picklable: a class of a module, no lambdas; else set workers=0.

    Args:
        train: the training Dataset. Splits for which there is no Dataset are split off it.
        validation: a Dataset for validation, if there is one.
        test: a Dataset for the test, if there is one.
        class_names: by class number; by default the Dataset's `classes`, or the numbers of the classes. [] says that
            targets are values.
    """
    predefined = {
        name: dataset for name, dataset in (("validation", validation), ("test", test)) if dataset is not None
    }
    return DatasetSamples({"train": train, **predefined}, class_names)


class DatasetSamples(Samples):
    """The samples of several Datasets, one after another; those beside "train" are predefined splits.

    Args:
        datasets: by split, "train" first.
        class_names: as `dataset_samples` takes them.

    Raises:
        UserError: an object is not a map-style Dataset, or has no usable targets.
    """

    use_processes = True

    def __init__(self, datasets: dict[str, Any], class_names: Sequence[str] | None) -> None:
        for name, dataset in datasets.items():
            if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
                kind = type(dataset).__name__
                raise UserError(f"the {name} dataset is a {kind}, without samples by number and a length")
        self._datasets = list(datasets.values())
        self.targets = np.concatenate([_targets(name, dataset) for name, dataset in datasets.items()])
        self._ends = np.cumsum([len(dataset) for dataset in self._datasets])
        self.predefined_splits = predefined_rows({name: len(dataset) for name, dataset in datasets.items()})
        if class_names is None:
            are_classes = self.targets.dtype.kind in "iu" and self.targets.ndim == 1
            numbers = [str(number) for number in range(int(self.targets.max()) + 1)] if are_classes else []
            class_names = getattr(self._datasets[0], "classes", numbers)
        self.class_names = list(class_names)

    def read(self, row: int, generator: torch.Generator | None) -> Tensor:
        """The features of a sample, read while the global generators are seeded for it."""
        number = int(np.searchsorted(self._ends, row, side="right"))
        index = row - (int(self._ends[number - 1]) if number else 0)
        dataset = self._datasets[number]
        with _seeded(0 if generator is None else generator.initial_seed()):
            try:
                features, *_ = dataset[index]
                return torch.as_tensor(features)
            except Exception as error:  # a user's code raises what it likes
                raise UserError(
                    f"sample {index} of the {type(dataset).__name__} can't be read: {type(error).__name__}: {error}"
                ) from error


def _targets(name: str, dataset: Any) -> np.ndarray[Any, Any]:
    targets = getattr(dataset, "targets", None)
    if targets is None:
        print(
            f"{name}: the {type(dataset).__name__} has no targets; reading all {len(dataset):,} samples once for them",
            file=sys.stderr,
        )
        with _seeded(0):
            targets = [np.asarray(dataset[index][1]) for index in range(len(dataset))]
    array = np.asarray(targets)
    if len(array) != len(dataset) or array.dtype.kind not in "iuf":
        raise UserError(f"the targets of the {name} dataset are not {len(dataset)} numbers")
    return array


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's, NumPy's and Python's global generators, and restore them afterwards."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
