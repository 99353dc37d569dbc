"""Any map-style torch Dataset as samples: what it returns is not looked into beyond (features, target)."""

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
from aibig.errors import UserError


def dataset_samples(
    train: Any, *, validation: Any = None, test: Any = None, class_names: list[str] | None = None
) -> DatasetSamples:
    """The samples of map-style torch Datasets, for SampleData, whose worker processes read them.

    train: it is split into the parts for which there is no Dataset. class_names: by default the Dataset's `classes`,
    or the numbers of the classes; give [] for targets that are values.

    Targets are the Dataset's `targets`; without them every sample is read once, and that is said. Whatever a Dataset
    draws from the global generators (torch's, NumPy's, Python's) is seeded for each sample. On machines that spawn
    processes, and from Python 3.14 on, it must be picklable: a class of a module, no lambdas; else say workers=0.
    """
    given = {name: one for name, one in (("validation", validation), ("test", test)) if one is not None}
    return DatasetSamples({"train": train, **given}, class_names)


class DatasetSamples(Samples):
    """The samples of several Datasets, one after another; those beside "train" are parts as they are."""

    in_processes = True

    def __init__(self, datasets: dict[str, Any], class_names: Sequence[str] | None) -> None:
        for name, one in datasets.items():
            if not (hasattr(one, "__getitem__") and hasattr(one, "__len__")):
                raise UserError(f"the {name} dataset is a {type(one).__name__}, without samples by number and a length")
        self._datasets = list(datasets.values())
        self.targets = np.concatenate([_targets(name, one) for name, one in datasets.items()])
        self._ends = np.cumsum([len(one) for one in self._datasets])
        starts = self._ends - [len(one) for one in self._datasets]
        rows = {name: np.arange(*ends) for name, *ends in zip(datasets, starts, self._ends, strict=True)}
        self.given = {name: index for name, index in rows.items() if name != "train"}
        if class_names is None:
            whole = self.targets.dtype.kind in "iu" and self.targets.ndim == 1
            numbers = [str(number) for number in range(int(self.targets.max()) + 1)] if whole else []
            class_names = getattr(self._datasets[0], "classes", numbers)
        self.class_names = list(class_names)

    def read(self, row: int, generator: torch.Generator | None) -> Tensor:
        """The features of a sample, while the global generators stand at its own seed."""
        which = int(np.searchsorted(self._ends, row, side="right"))
        inside = row - (int(self._ends[which - 1]) if which else 0)
        with _seeded(0 if generator is None else generator.initial_seed()):
            try:
                features, *_ = self._datasets[which][inside]
                return torch.as_tensor(features)
            except Exception as error:  # a user's code raises what it likes
                raise UserError(
                    f"sample {inside} of the {type(self._datasets[which]).__name__} can't be read: "
                    f"{type(error).__name__}: {error}"
                ) from error


def _targets(name: str, dataset: Any) -> np.ndarray[Any, Any]:
    targets = getattr(dataset, "targets", None)
    if targets is None:
        print(
            f"{name}: the {type(dataset).__name__} has no targets; reading all {len(dataset):,} samples once for them",
            file=sys.stderr,
        )
        with _seeded(0):
            targets = [np.asarray(dataset[number][1]) for number in range(len(dataset))]
    found = np.asarray(targets)
    if len(found) != len(dataset) or found.dtype.kind not in "iuf":
        raise UserError(f"the targets of the {name} dataset are not {len(dataset)} numbers")
    return found


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """torch's, NumPy's and Python's own generators at `seed` for a while."""
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])
