"""Prefetched samples: neither workers nor prefetch change what is drawn at random, and no worker is left over."""

from __future__ import annotations

import multiprocessing
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from aibig.data.labelled import Batches
from aibig.data.samples import SampleData, Samples
from aibig.data.torch_dataset import dataset_samples
from aibig.errors import UserError

ROWS = 60


class Noisy(Samples):
    """Samples of the row and two random numbers, some slow to read."""

    def __init__(self, damaged: int | None = None) -> None:
        self.targets, self.class_names, self.predefined_splits = np.arange(ROWS) % 3, ["a", "b", "c"], {}
        self.damaged = damaged

    def read(self, row: int, generator: torch.Generator | None) -> Tensor:
        if row == self.damaged and generator is not None:
            raise UserError(f"noisy/{row}.jpg: is damaged")
        time.sleep(0.002 * (row % 4 == 0))
        noise = torch.zeros(2) if generator is None else torch.rand(2, generator=generator)
        return torch.cat([torch.tensor([float(row)]), noise])


class NoisyInProcesses(Noisy):
    use_processes = True


class Pairs(Dataset):  # type: ignore[type-arg]
    """A user's dataset, which draws from every global generator."""

    classes = ("a", "b", "c")

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, row: int) -> tuple[np.ndarray[Any, Any], int]:
        return np.array([row, torch.rand(()).item(), np.random.rand(), random.random()]), row % 3


class Broken(Pairs):
    targets = [row % 3 for row in range(ROWS)]  # noqa: RUF012

    def __getitem__(self, row: int) -> tuple[np.ndarray[Any, Any], int]:
        return np.array([1 / (row - 7)]), row % 3


def take(batches: Batches, count: int) -> list[tuple[Tensor, Tensor]]:
    taken = []
    for _ in range(count):
        (features,), targets, size = batches.next()
        assert len(features) == len(targets) == size
        taken.append((features, targets))
    return taken


def assert_same(batches: list[tuple[Tensor, Tensor]], expected: list[tuple[Tensor, Tensor]]) -> None:
    assert len(batches) == len(expected)
    for batch, expected_batch in zip(batches, expected, strict=True):
        assert all(map(torch.equal, batch, expected_batch))


@pytest.mark.parametrize(
    ("kind", "workers", "prefetch"),
    [(Noisy, 1, 0), (Noisy, 3, 1), (Noisy, 3, 5), (NoisyInProcesses, 1, 2), (NoisyInProcesses, 3, 3)],
)
def test_workers_and_prefetch_change_nothing_also_after_a_resume(kind: Any, workers: int, prefetch: int) -> None:
    expected = take(SampleData(Noisy(), batch_size=8, workers=0).training_batches(5, 0, 1), 13)
    assert not torch.equal(
        *(torch.cat([features for features, _ in epoch]) for epoch in (expected[:5], expected[5:10]))
    )
    data = SampleData(kind(), batch_size=8, workers=workers, prefetch=prefetch)
    batches = data.training_batches(5, 0, 1)
    assert_same(take(batches, 7), expected[:7])
    state = batches.state_dict()  # in the middle of the second epoch, with prefetched batches
    take(batches, 2)
    other = data.training_batches(5, 0, 1)
    other.load_state_dict(state)
    assert_same(take(other, 6), expected[7:])
    batches.load_state_dict(state)
    assert_same(take(batches, 6), expected[7:])


def test_an_epoch_has_every_sample_once_with_its_target_and_randomness_of_its_own() -> None:
    data = SampleData(Noisy(), batch_size=8, workers=2)
    batches = data.training_batches(0, 0, 1)
    epochs = [torch.cat([features for features, _ in take(batches, batches.per_epoch)]) for _ in range(2)]
    for epoch in epochs:
        assert sorted(epoch[:, 0].int().tolist()) == data.splits["train"].tolist()
    assert len({*torch.cat(epochs)[:, 1].tolist()}) == 2 * len(data.splits["train"])  # no number drawn twice
    for (features,), targets in data.evaluation_batches("test"):
        assert features[:, 0].int().tolist() == data.splits["test"].tolist()
        assert torch.equal(features[:, 0] % 3, targets) and not features[:, 1:].any()


def test_ranks_share_the_samples_of_a_batch() -> None:
    data = SampleData(Noisy(), batch_size=8, workers=2)
    alone = take(data.training_batches(0, 0, 1), 3)
    ranks = [data.training_batches(0, rank, 2) for rank in range(2)]
    for features, _ in alone:
        shares = torch.cat([rank.next()[0][0] for rank in ranks])
        assert sorted(map(tuple, shares.tolist())) == sorted(map(tuple, features.tolist()))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataset_of_torch_is_seeded_for_each_sample(workers: int, capsys: pytest.CaptureFixture[str]) -> None:
    expected = take(SampleData(dataset_samples(Pairs()), batch_size=8, workers=1).training_batches(0, 0, 1), 8)
    assert "the Pairs has no targets; reading all 60 samples once" in capsys.readouterr().err
    torch.manual_seed(9)
    before = torch.get_rng_state()
    data = SampleData(dataset_samples(Pairs(), test=Pairs()), batch_size=8, workers=workers, test_fraction=0.9)
    assert len(data.splits["test"]) == ROWS and data.class_names == ["a", "b", "c"]
    data = SampleData(dataset_samples(Pairs()), batch_size=8, workers=workers)
    assert_same(take(data.training_batches(0, 0, 1), 8), expected)
    assert torch.equal(torch.get_rng_state(), before)
    assert len({number for features, _ in expected for number in features[:, 1:].flatten().tolist()}) > 150


def test_processes_may_be_spawned(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = take(SampleData(dataset_samples(Pairs()), batch_size=8, workers=0).training_batches(0, 0, 1), 2)
    monkeypatch.setattr(multiprocessing, "get_context", lambda method=None: multiprocessing.context.SpawnContext())
    data = SampleData(dataset_samples(Pairs()), batch_size=8, workers=1)
    assert_same(take(data.training_batches(0, 0, 1), 2), expected)


@pytest.mark.parametrize("kind", [Noisy, NoisyInProcesses])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_that_cannot_be_read_is_named_when_its_batch_comes(kind: Any, workers: int) -> None:
    data = SampleData(kind(damaged=int(SampleData(Noisy()).splits["train"][3])), batch_size=4, workers=workers)
    batches = data.training_batches(0, 0, 1)
    with pytest.raises(UserError, match=r"^noisy/\d+\.jpg: is damaged$"):
        take(batches, batches.per_epoch)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_a_users_dataset_is_one_line(workers: int) -> None:
    with pytest.raises(UserError, match=r"^sample 7 of the Broken can't be read: ZeroDivisionError: .*by zero$"):
        take(
            SampleData(
                dataset_samples(Broken()), batch_size=60, test_fraction=0, validation_fraction=0, workers=workers
            ).training_batches(0, 0, 1),
            1,
        )


def test_an_object_that_is_no_dataset_and_samples_of_other_shapes_are_named() -> None:
    class Growing(Pairs):
        targets = Broken.targets

        def __getitem__(self, row: int) -> tuple[np.ndarray[Any, Any], int]:
            return np.zeros(1 + row), row % 3

    with pytest.raises(UserError, match="the train dataset is a generator, without samples by number"):
        dataset_samples(sample for sample in ())
    with pytest.raises(UserError, match=r"sample \d+ has the shape \[\d+\], the first one \[\d+\]; make all alike"):
        take(SampleData(dataset_samples(Growing()), workers=0).training_batches(0, 0, 1), 1)


@pytest.mark.parametrize(
    ("targets", "class_names", "complaint"),
    [
        (np.arange(ROWS) % 4, ["a", "b", "c"], "row 3 of the targets is 3, but 3 classes are numbered from 0 to 2"),
        (np.arange(ROWS) % 3 - 1, ["a", "b", "c"], "row 0 of the targets is -1, but 3 classes"),
        (np.where(np.arange(ROWS) == 7, np.nan, 0.5), [], "row 7 of the targets is not a finite number"),
        (np.zeros(ROWS, int), ["a"], "one class only, 'a'"),
    ],
)
def test_invalid_targets_are_named_before_training(targets: Any, class_names: list[str], complaint: str) -> None:
    samples = Noisy()
    samples.targets, samples.class_names = targets, class_names
    with pytest.raises(UserError, match=complaint):
        SampleData(samples, workers=0)


@pytest.mark.parametrize("kind", [Noisy, NoisyInProcesses])
def test_data_that_are_let_go_leave_no_worker(kind: Any) -> None:
    def workers() -> set[Any]:
        return {*threading.enumerate(), *multiprocessing.active_children()}

    before = workers()
    data = SampleData(kind(), batch_size=8, workers=3)
    batches = data.training_batches(0, 0, 1)
    take(batches, 1)
    next(data.evaluation_batches("test"))
    assert workers() - before
    del data, batches
    deadline = time.monotonic() + 20
    while workers() - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not workers() - before


@pytest.mark.parametrize("kind", ["Noisy", "NoisyInProcesses"])
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_stopped_in_the_middle_leaves_none(kind: str, stop: signal.Signals, tmp_path: Path) -> None:
    code = f"""
import multiprocessing, signal
from test_samples import {kind}, SampleData
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell in the background ignores it
batches = SampleData({kind}(), batch_size=8, workers=2).training_batches(0, 0, 1)
batches.next()
print(*[process.pid for process in multiprocessing.active_children()], flush=True)
while True:
    batches.next()
"""
    (tmp_path / "stopped.py").write_text(code)
    path = {"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[2]}", "PATH": "/usr/bin:/bin"}
    process = subprocess.Popen([sys.executable, "stopped.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=path)
    assert process.stdout is not None
    try:
        workers = [int(word) for word in process.stdout.readline().split()]
        assert len(workers) == (2 if kind == "NoisyInProcesses" else 0)
        process.send_signal(stop)
        errors = process.communicate(timeout=60)[1].decode()
    finally:
        process.kill()
    assert process.returncode in (-stop, 1) and errors.count("Traceback") == (stop == signal.SIGINT)
    deadline = time.monotonic() + 20
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(is_alive, workers))


def is_alive(process: int) -> bool:
    """Whether a process runs; one that has ended and that nobody waits for counts as gone."""
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
