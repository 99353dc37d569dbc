"""Samples that a pool of workers reads, in batches ahead of their use. Knows no file format, no model and no loss.

What is drawn at random depends on seed, epoch and row alone: neither workers nor prefetch changes it. B is the batch
size.
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

import torch
from numpy.typing import NDArray
from torch import Tensor

from aibig.config.settings import Fraction, NonNegativeInt, PositiveInt
from aibig.data.fingerprint import fingerprint
from aibig.data.labelled import Batches, Inputs, LabelledData, check_targets, shape_settings, target_tensor
from aibig.data.order import EpochOrder
from aibig.data.splits import split_rows
from aibig.errors import UserError
from aibig.seeds import derive_seed

MAX_WORKERS = 8  # of "auto"
JOBS_PER_WORKER = 2  # of a batch, so that no worker waits long for another
EVALUATION_BATCH_ROWS = 4096
EVALUATION_BATCH_NUMBERS = 10_000_000


class Samples(ABC):
    """The targets of samples, and how to read the features of one."""

    targets: NDArray[Any]  # (rows,) class numbers, or (rows,) or (rows, outputs) values
    class_names: list[str]  # by class number; empty for values
    predefined_splits: dict[str, NDArray[Any]]  # row numbers, as `split_rows` takes them
    use_processes: bool = False  # where reading holds Python's lock; threads cost less

    @abstractmethod
    def read(self, row: int, generator: torch.Generator | None) -> Tensor:
        """The features of a row, of the same shape for all. Bytes and floats reach the model as float32.

        Args:
            row: number of the sample, from 0.
            generator: for training: what is random about the sample is drawn from it; None reads it unchanged.

        Raises:
            UserError: the sample can't be read; it names the file or the row.
        """

    def scale_(self, features: Tensor) -> Tensor:
        """Scale features in place, by what was fitted on the training split.

        Args:
            features: (..., C, H, W) as float32.
        """
        return features

    def fingerprint(self, rows: Tensor) -> str:
        """A fingerprint of rows, without reading their features.

        Args:
            rows: row numbers.
        """
        return fingerprint(rows, torch.from_numpy(self.targets)[rows])


class SampleData(LabelledData):
    """Samples split into train, validation and test, read by workers in batches ahead of their use.

    Args:
        source: the samples, or a function that returns them.
        batch_size: samples of a micro-batch over all ranks.
        validation_fraction: share of the samples for validation; ignored if the dataset has a validation split.
        test_fraction: share of the samples for the test; ignored if the dataset has a test split.
        split: how samples are divided: "stratified" by class or "random"; "auto" stratifies classes.
        split_seed: decides which samples go where; independent of the training seed.
        workers: threads or processes that read; 0 reads when a batch is asked for; "auto" is one per CPU core, at
            most 8.
        prefetch: batches that are read ahead.

    Raises:
        UserError: the samples can't be split.
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
            method=split,
            classes=samples.targets if samples.class_names else None,
            class_names=samples.class_names,
            predefined=samples.predefined_splits,
        )
        self.splits = {name: torch.from_numpy(index) for name, index in rows.items()}
        self._targets = target_tensor(samples.targets, self.class_names)
        self.fingerprint = samples.fingerprint(self.splits["train"])
        example = samples.read(int(self.splits["train"][0]), None)
        self.sample_shape = list(example.shape)
        self.pool = WorkerPool(samples, example, default_workers() if workers == "auto" else workers, prefetch)

    def to(self, device: torch.device) -> None:
        """Make batches for `device`."""
        self.pool.device = device

    def model_settings(self) -> dict[str, Any]:
        """in_features; for images (C, H, W) in_channels and image_size too."""
        return shape_settings(self.sample_shape)

    def training_batches(self, seed: int, rank: int, world_size: int) -> SampleBatches:
        """Samples of the training split in a shuffled order."""
        order = EpochOrder(len(self.splits["train"]), self.batch_size, seed, rank, world_size)
        return SampleBatches(self, order, seed)

    @property
    def notes(self) -> list[str]:
        """How many samples there are, and which classes a split lacks."""
        return [f"samples: {self.sizes}", *self.absent_classes("sample")]

    def targets(self, split: str) -> Tensor:
        """(rows,) class numbers, or (rows, outputs) values."""
        return self._targets[self.splits[split]]

    def targets_of(self, rows: Tensor) -> Tensor:
        """Targets (B,) or (B, outputs).

        Args:
            rows: (B,) row numbers among all samples.
        """
        return self._targets[rows]

    def evaluation_batches(self, split: str) -> Iterator[tuple[Inputs, Tensor]]:
        """All of a split in batches of the training's size, or larger where samples are small."""
        limit = EVALUATION_BATCH_NUMBERS // max(1, math.prod(self.sample_shape))
        batches = iter(self.splits[split].split(min(EVALUATION_BATCH_ROWS, max(self.batch_size, limit))))
        prefetched: deque[tuple[BatchFuture, Tensor]] = deque()
        try:
            while True:
                while len(prefetched) <= self.pool.prefetch and (rows := next(batches, None)) is not None:
                    prefetched.append((self.pool.submit(rows, None), rows))
                if not prefetched:
                    return
                future, rows = prefetched.popleft()
                yield (future.result(),), self.targets_of(rows)
        finally:
            for future, _ in prefetched:
                future.cancel()

    def inference_config(self) -> dict[str, Any]:
        """Nothing: only their source knows how samples are prepared."""
        return {}


class SampleBatches(Batches):
    """Samples in a shuffled order, prefetched. The state counts batches that were handed out, not prefetched ones.

    Args:
        data: the samples.
        order: of the rows of their training split.
        seed: of what is random about a sample.
    """

    def __init__(self, data: SampleData, order: EpochOrder, seed: int) -> None:
        self._data, self._order, self._seed = data, order, seed
        self.per_epoch = order.batches_per_epoch
        self._state = order.state_dict()
        self._prefetched: deque[tuple[BatchFuture, Tensor, int, dict[str, int]]] = deque()

    def next(self) -> tuple[Inputs, Tensor, int]:
        """Features (B, ...), targets, and the size of the whole batch."""
        while len(self._prefetched) <= self._data.pool.prefetch:
            index, size = self._order.next()
            rows = self._data.splits["train"][index]
            future = self._data.pool.submit(rows, derive_seed(self._seed, "samples", self._order.epoch))
            self._prefetched.append((future, rows, size, self._order.state_dict()))
        future, rows, size, state = self._prefetched.popleft()
        features, self._state = future.result(), state
        return (features,), self._data.targets_of(rows).to(features.device, non_blocking=True), size

    def state_dict(self) -> dict[str, Any]:
        """The position: epoch, and batch within it."""
        return dict(self._state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a position; what was prefetched is dropped."""
        for future, *_ in self._prefetched:
            future.cancel()
        self._prefetched.clear()
        self._order.load_state_dict(state)
        self._state = dict(state)


class WorkerPool:
    """Threads or processes that read samples. The first batch starts them; they end with this object or this process.

    Args:
        samples: what is read.
        example: the features of a sample; all others have its shape and type.
        workers: number of threads or processes; 0 reads in the calling thread, without prefetching.
        prefetch: batches that are read ahead.
    """

    def __init__(self, samples: Samples, example: Tensor, workers: int, prefetch: int) -> None:
        self.samples, self.workers = samples, workers
        self.prefetch = prefetch if workers else 0
        self.device = torch.device("cpu")  # what batches are made for
        self._shape, self._dtype = list(example.shape), example.dtype
        self._executor: Executor | None = None

    def submit(self, rows: Tensor, seed: int | None) -> BatchFuture:
        """Start to read a batch.

        Args:
            rows: (B,) row numbers.
            seed: for training: a sample's generator is seeded by it and the row; None reads samples unchanged.
        """
        scalable = self._dtype == torch.uint8 or self._dtype.is_floating_point
        scale_here = scalable and self.device.type == "cpu"  # else bytes travel as bytes, and are scaled on the device
        batch = torch.empty(
            [len(rows), *self._shape],
            dtype=torch.float32 if scale_here else self._dtype,
            pin_memory=self.device.type == "cuda",
        )
        size = -(-len(rows) // (JOBS_PER_WORKER * self.workers)) if self.workers else len(rows)
        jobs: list[tuple[Tensor, Future[Any]]] = []
        for job_rows, target in zip(rows.split(size), batch.split(size), strict=True):
            settings = (job_rows.tolist(), seed, scale_here)
            if not self.workers:
                fill_batch(target, self.samples, *settings)
            elif self.samples.use_processes:
                shape = list(target.shape)
                jobs.append((target, self._started().submit(_read_in_process, shape, target.dtype, *settings)))
            else:
                jobs.append((target, self._started().submit(fill_batch, target, self.samples, *settings)))
        return BatchFuture(batch, jobs, self.device, self.samples.scale_ if scalable and not scale_here else None)

    def _started(self) -> Executor:
        if self._executor is None:
            if self.samples.use_processes:
                self._executor = ProcessPoolExecutor(self.workers, None, _init_process, (self.samples,))
            else:
                self._executor = ThreadPoolExecutor(self.workers, "reader", _init_thread)
            weakref.finalize(self, self._executor.shutdown, wait=False, cancel_futures=True)
        return self._executor


class BatchFuture:
    """A batch that is being read.

    Args:
        batch: (B, ...), filled by the jobs.
        jobs: slices of the batch, and the future of each. A future of a process returns the slice's features.
        device: where the batch is wanted.
        scale: applied on the device; None if the jobs scale.
    """

    def __init__(
        self,
        batch: Tensor,
        jobs: list[tuple[Tensor, Future[Any]]],
        device: torch.device,
        scale: Callable[[Tensor], Tensor] | None,
    ) -> None:
        self._batch, self._jobs, self._device, self._scale = batch, jobs, device, scale

    def result(self) -> Tensor:
        """Wait for the features, (B, ...), on the device.

        Raises:
            UserError: a sample can't be read, or a process died.
        """
        try:
            for target, future in self._jobs:
                features = future.result()
                if features is not None:
                    target.copy_(torch.from_numpy(features))
        except BrokenProcessPool:
            raise UserError(
                "a process that reads samples died (out of memory?); set data.workers=0 to see why"
            ) from None
        finally:
            self.cancel()
        batch = self._batch.to(self._device, non_blocking=True)
        return batch if self._scale is None else self._scale(batch.float())

    def cancel(self) -> None:
        """Cancel the jobs that have not started."""
        for _, future in self._jobs:
            future.cancel()


def fill_batch(batch: Tensor, samples: Samples, rows: list[int], seed: int | None, scale: bool) -> None:
    """Read samples into a batch.

    Args:
        batch: (B, ...), overwritten.
        samples: what is read.
        rows: (B,) row numbers.
        seed: for training: a sample's generator is seeded by it and the row; None reads samples unchanged.
        scale: whether to scale the features.

    Raises:
        UserError: a sample can't be read, or has another shape.
    """
    for target, row in zip(batch, rows, strict=True):
        generator = None if seed is None else torch.Generator().manual_seed(derive_seed(seed, row))
        features = samples.read(row, generator)
        if features.shape != target.shape:
            shapes = f"{list(features.shape)}, the first one {list(target.shape)}"
            raise UserError(f"sample {row} has the shape {shapes}; make all alike")
        target.copy_(features)
        if scale:
            samples.scale_(target)


def default_workers() -> int:
    """One per CPU core that this process may use, shared with the other ranks of this machine, at most MAX_WORKERS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MAX_WORKERS, max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def _init_thread() -> None:
    torch.set_num_threads(1)  # of this thread: the workers share the cores already


_samples_of_process: Samples


def _init_process(samples: Samples) -> None:
    """Prepare a worker process: it leaves Ctrl-C to its parent, and does not outlive it."""
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
    shape: list[int], dtype: torch.dtype, rows: list[int], seed: int | None, scale: bool
) -> NDArray[Any]:
    batch = torch.empty(shape, dtype=dtype)
    fill_batch(batch, _samples_of_process, rows, seed, scale)
    return batch.numpy()  # pickled whole: a tensor would share a file descriptor with its reader
