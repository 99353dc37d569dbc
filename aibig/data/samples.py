"""Samples that are read one by one, while earlier ones are learnt from. Knows no file format, no model and no loss.

What is drawn depends on seed, epoch and row alone: neither workers nor prefetch changes it. B is the batch size.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aibig.config.settings import Fraction, NonNegativeInt, PositiveInt
from aibig.data.fingerprint import fingerprint
from aibig.data.labelled import Batches, Inputs, LabelledData, check_targets, shape_settings
from aibig.data.order import EpochOrder
from aibig.data.splits import split_rows
from aibig.errors import UserError
from aibig.seeds import derive_seed

WORKERS_MAX = 8  # of "auto"
TASKS_PER_WORKER = 2  # of a batch, so that no worker waits long for another
NUMBERS_AT_ONCE = 10_000_000  # of an evaluation


class Samples(ABC):
    """What is known of samples before one is read, and how to read one.

    targets: (rows,) class numbers, or (rows,) or (rows, outputs) numbers. given: as of `Arrays`.
    in_processes: read by worker processes, since reading holds Python's lock; threads cost less.
    """

    targets: NDArray[Any]
    class_names: list[str]
    given: dict[str, NDArray[Any]]
    in_processes: bool = False

    @abstractmethod
    def read(self, row: int, generator: torch.Generator | None) -> Tensor:
        """The features of a row, of one shape for all: for training with what `generator` draws; without, as it is.

        Bytes and floating numbers come to the model as float32. Raises UserError naming the file, or the row, that
        can't be read.
        """

    def scale_(self, features: Tensor) -> Tensor:
        """Scale features (..., C, H, W) of float32 in place, by what was fitted on the training part."""
        return features

    def fingerprint(self, rows: Tensor) -> str:
        """Whether the rows are those that a run began with, as far as that can be told without reading them."""
        return fingerprint(rows, torch.from_numpy(self.targets)[rows])


class SampleData(LabelledData):
    """Samples split into train, validation and test, read by workers ahead of their use.

    source: the samples, or a function that returns them.
    workers: threads or processes that read; 0 reads when a batch is asked for, "auto" is one a processor core, at most
    8. prefetch: batches read ahead. The other settings are those of ArrayData.

    Raises UserError for rows that can't be split.
    """

    def __init__(
        self,
        source: Samples | Callable[[], Samples],
        *,
        batch_size: PositiveInt = 64,
        validation_fraction: Fraction = 0.15,
        test_fraction: Fraction = 0.2,
        split: Literal["auto", "stratified", "random"] = "auto",
        split_seed: NonNegativeInt = 0,
        workers: NonNegativeInt | Literal["auto"] = "auto",
        prefetch: NonNegativeInt = 2,
    ) -> None:
        samples = source() if callable(source) else source
        self.samples, self.class_names, self.batch_size = samples, samples.class_names, batch_size
        check_targets(samples.targets, samples.class_names)
        rows = split_rows(
            *(len(samples.targets), validation_fraction, test_fraction, split_seed),
            split=split,
            classes=samples.targets if samples.class_names else None,
            class_names=samples.class_names,
            given=samples.given,
        )
        self.parts = {name: torch.from_numpy(index) for name, index in rows.items()}
        targets = torch.from_numpy(np.require(samples.targets, requirements=["C", "W"]))
        self._targets = targets.long() if self.class_names else targets.float().reshape(len(targets), -1)
        self.fingerprint = samples.fingerprint(self.parts["train"])
        example = samples.read(int(self.parts["train"][0]), None)
        self.sample_shape = list(example.shape)
        self.readers = Readers(samples, example, default_workers() if workers == "auto" else workers, prefetch)

    def to(self, device: torch.device) -> None:
        """Batches are made for `device`."""
        self.readers.device = device

    def model_settings(self) -> dict[str, Any]:
        """in_features; for images (C, H, W) in_channels and image_size too."""
        return shape_settings(self.sample_shape)

    def training_batches(self, seed: int, rank: int, world_size: int) -> SampleBatches:
        """Samples of the training part in a shuffled order."""
        order = EpochOrder(len(self.parts["train"]), self.batch_size, seed, rank, world_size)
        return SampleBatches(self, order, seed)

    @property
    def notes(self) -> list[str]:
        """How many samples there are, and which classes a part is without."""
        return [f"samples: {self.sizes}", *self.absent_classes("sample")]

    def targets(self, split: str) -> Tensor:
        """(rows,) class numbers, or (rows, outputs) values, of a part."""
        return self._targets[self.parts[split]]

    def targets_of(self, rows: Tensor) -> Tensor:
        """Targets (B,) or (B, outputs)."""
        return self._targets[rows]

    def evaluation_batches(self, split: str) -> Iterator[tuple[Inputs, Tensor]]:
        """All of a part, as many samples at a time as a training batch has, or more where they are small."""
        at_once = min(4096, max(self.batch_size, NUMBERS_AT_ONCE // max(1, math.prod(self.sample_shape))))
        rows = iter(self.parts[split].split(at_once))
        ahead: deque[tuple[Reading, Tensor]] = deque()
        try:
            while True:
                while len(ahead) <= self.readers.prefetch and (some := next(rows, None)) is not None:
                    ahead.append((self.readers.begin(some, None), some))
                if not ahead:
                    return
                reading, some = ahead.popleft()
                yield (reading.wait(),), self.targets_of(some)
        finally:
            for reading, _ in ahead:
                reading.cancel()

    def inference_facts(self) -> dict[str, Any]:
        """Nothing: how samples of unknown origin are prepared, only their source knows."""
        return {}


class SampleBatches(Batches):
    """Samples in a shuffled order, read ahead. Its state counts what was handed out, not what was read."""

    def __init__(self, data: SampleData, order: EpochOrder, seed: int) -> None:
        self._data, self._order, self._seed = data, order, seed
        self.per_epoch = order.batches_per_epoch
        self._state = order.state_dict()
        self._ahead: deque[tuple[Reading, Tensor, int, dict[str, int]]] = deque()

    def next(self) -> tuple[Inputs, Tensor, int]:
        """Features (B, ...) and targets."""
        while len(self._ahead) <= self._data.readers.prefetch:
            places, size = self._order.next()
            rows = self._data.parts["train"][places]
            reading = self._data.readers.begin(rows, derive_seed(self._seed, "samples", self._order.epoch))
            self._ahead.append((reading, rows, size, self._order.state_dict()))
        reading, rows, size, state = self._ahead.popleft()
        features, self._state = reading.wait(), state
        return (features,), self._data.targets_of(rows).to(features.device, non_blocking=True), size

    def state_dict(self) -> dict[str, Any]:
        """Where in which epoch."""
        return dict(self._state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for reading, *_ in self._ahead:
            reading.cancel()
        self._ahead.clear()
        self._order.load_state_dict(state)
        self._state = dict(state)


class Readers:
    """Threads or processes that read samples; started by the first batch, ended with this object or this process.

    example: the features of a sample, which all others are like. workers: 0 reads in the calling thread, and nothing
    ahead. device: what the batches are made for.
    """

    def __init__(self, samples: Samples, example: Tensor, workers: int, prefetch: int) -> None:
        self.samples, self.workers = samples, workers
        self.prefetch = prefetch if workers else 0
        self.device = torch.device("cpu")
        self._shape, self._dtype = list(example.shape), example.dtype
        self._pool: Executor | None = None

    def begin(self, rows: Tensor, seed: int | None) -> Reading:
        """Begin to read `rows`; a training sample's generator is seeded by `seed` and its row."""
        numbers = self._dtype == torch.uint8 or self._dtype.is_floating_point
        here = numbers and self.device.type == "cpu"  # else bytes travel as bytes, and are scaled where they arrive
        batch = torch.empty(
            [len(rows), *self._shape],
            dtype=torch.float32 if here else self._dtype,
            pin_memory=self.device.type == "cuda",
        )
        size = -(-len(rows) // (TASKS_PER_WORKER * self.workers)) if self.workers else len(rows)
        tasks: list[tuple[Tensor, Future[Any]]] = []
        for some, place in zip(rows.split(size), batch.split(size), strict=True):
            if not self.workers:
                read_into(place, self.samples, some.tolist(), seed, here)
            elif self.samples.in_processes:
                like = (list(place.shape), place.dtype)
                tasks.append((place, self._started().submit(_read_in_process, like, some.tolist(), seed, here)))
            else:
                submit = self._started().submit
                tasks.append((place, submit(read_into, place, self.samples, some.tolist(), seed, here)))
        return Reading(batch, tasks, self.device, self.samples.scale_ if numbers and not here else None)

    def _started(self) -> Executor:
        if self._pool is None:
            if self.samples.in_processes:
                self._pool = ProcessPoolExecutor(self.workers, None, _begin_process, (self.samples,))
            else:
                self._pool = ThreadPoolExecutor(self.workers, "reader", _begin_thread)
            weakref.finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)
        return self._pool


class Reading:
    """A batch that is being read. scale: what is still to be done where it arrives."""

    def __init__(
        self,
        batch: Tensor,
        tasks: list[tuple[Tensor, Future[Any]]],
        device: torch.device,
        scale: Callable[[Tensor], Tensor] | None,
    ) -> None:
        self._batch, self._tasks, self._device, self._scale = batch, tasks, device, scale

    def wait(self) -> Tensor:
        """The features, (B, ...), on the device. Raises UserError for a sample that can't be read."""
        try:
            for place, task in self._tasks:
                read = task.result()
                if read is not None:
                    place.copy_(torch.from_numpy(read))
        except BrokenProcessPool:
            raise UserError(
                "a process that reads samples died (out of memory?); set data.workers=0 to see why"
            ) from None
        finally:
            self.cancel()
        features = self._batch.to(self._device, non_blocking=True)
        return features if self._scale is None else self._scale(features.float())

    def cancel(self) -> None:
        """Give up what has not been begun."""
        for _, task in self._tasks:
            task.cancel()


def read_into(batch: Tensor, samples: Samples, rows: list[int], seed: int | None, scaled: bool) -> None:
    """Fill `batch` with the features of `rows`. Raises UserError for one that can't be read, or has another shape."""
    for place, row in zip(batch, rows, strict=True):
        generator = None if seed is None else torch.Generator().manual_seed(derive_seed(seed, row))
        features = samples.read(row, generator)
        if features.shape != place.shape:
            shapes = f"{list(features.shape)}, the first one {list(place.shape)}"
            raise UserError(f"sample {row} has the shape {shapes}; make all alike")
        place.copy_(features)
        if scaled:
            samples.scale_(place)


def default_workers() -> int:
    """One a core that this process may use, shared with the other ranks on this machine, at most WORKERS_MAX."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(WORKERS_MAX, max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def _begin_thread() -> None:
    torch.set_num_threads(1)  # of this thread: the readers share the cores already


_samples_of_process: Samples


def _begin_process(samples: Samples) -> None:
    """Ready a worker process: it leaves Ctrl-C to its parent, and does not outlive it."""
    global _samples_of_process
    _samples_of_process = samples
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _read_in_process(
    like: tuple[list[int], torch.dtype], rows: list[int], seed: int | None, scaled: bool
) -> NDArray[Any]:
    batch = torch.empty(like[0], dtype=like[1])
    read_into(batch, _samples_of_process, rows, seed, scaled)
    return batch.numpy()  # it goes through the pipe whole: a tensor would share a file descriptor with its reader
