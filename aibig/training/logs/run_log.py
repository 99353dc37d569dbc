"""The log of a run: metrics.jsonl, the progress bar, messages. Knows no task.

Tensors are kept as they come and read once per log line, so that no step waits for the device.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from aibig.files import flush, write_text
from aibig.training.devices.distributed import World

METRICS_FILE = "metrics.jsonl"


class RunLog:
    """Collects the metrics of micro-batches; writes one JSON object per line.

    Args:
        world: the ranks of the run; only the main one writes.
        folder: folder for metrics.jsonl, made if it is missing; None to write nothing.
    """

    def __init__(self, world: World, folder: Path | None) -> None:
        self._world = world
        self._folder = folder if world.is_main else None
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
        self._pending: dict[str, tuple[list[Tensor | float], list[float]]] = {}  # name -> values, weights
        self._bar: tqdm[Any] | None = None
        self._lines = 0
        self._disk_is_full = False

    @contextmanager
    def progress_bar(self, step: int, total: int | None) -> Iterator[None]:
        """Show a progress bar within this context, if standard error is a terminal.

        Args:
            step: number of updates before.
            total: updates of the run from its beginning; None if that is not known.
        """
        if self._world.is_main and sys.stderr.isatty():
            self._bar = tqdm(initial=step, total=total, unit="step", dynamic_ncols=True, smoothing=0.05)
        try:
            yield
        finally:
            if self._bar is not None:
                self._bar.close()
                self._bar = None

    def advance(self) -> None:
        """Move the progress bar by one update."""
        if self._bar is not None:
            self._bar.update()

    def set_postfix(self, metrics: Mapping[str, float]) -> None:
        """Show a few numbers beside the progress bar.

        Args:
            metrics: the numbers, by name.
        """
        if self._bar is not None:
            self._bar.set_postfix({key: f"{value:.4g}" for key, value in metrics.items()}, refresh=False)

    def info(self, text: str) -> None:
        """Print a message above the progress bar; without a bar, nothing.

        Args:
            text: the message.
        """
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)

    def warn(self, text: str) -> None:
        """Print a message that matters on standard error, with or without a progress bar.

        Args:
            text: the message.
        """
        if self._world.is_main:
            tqdm.write(text, file=sys.stderr)

    def add(self, metrics: Mapping[str, Tensor | float], weight: float) -> None:
        """Keep the metrics of a micro-batch until the next log line.

        Args:
            metrics: numbers or detached scalar tensors, each a mean over `weight`.
            weight: of the micro-batch.
        """
        for name, value in metrics.items():
            if name not in self._pending:
                self._pending[name] = ([], [])
            values, weights = self._pending[name]
            values.append(value)
            weights.append(weight)

    def values(self, name: str) -> list[float]:
        """The values of a metric since the last log line.

        Args:
            name: of the metric.
        """
        return [float(value) for value in self._pending.get(name, ([], []))[0]]

    def pop_means(self) -> dict[str, float]:
        """The weighted mean of each metric over all micro-batches and ranks since the last call.

        Values that are not finite, those of skipped updates, are left out.
        """
        means = {}
        for name, (values, weights) in self._pending.items():
            column = _stack(values).cpu().double()
            weight = torch.tensor(weights, dtype=torch.float64)
            finite = column.isfinite()
            sums = torch.stack([(column * weight)[finite].sum(), weight[finite].sum()])
            total, total_weight = self._world.all_reduce(sums).tolist()
            means[name] = total / total_weight if total_weight else math.nan
        self._pending = {}
        return means

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record to metrics.jsonl, as a line. A full disk is reported once and does not stop the run.

        Args:
            record: plain values, by key.
        """
        if self._folder is None:
            return
        plain = {key: plain_number(value) for key, value in record.items()}
        try:
            with (self._folder / METRICS_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(plain) + "\n")
            self._lines += 1
            self._disk_is_full = False
        except OSError as error:
            if not self._disk_is_full:
                self.warn(f"{self._folder / METRICS_FILE}: cannot be written ({error}); training goes on without it")
            self._disk_is_full = True

    def flush(self) -> None:
        """Wait until the lines are on the disk."""
        if self._folder is not None and (self._folder / METRICS_FILE).exists():
            try:
                with (self._folder / METRICS_FILE).open("a") as file:
                    flush(file)
            except OSError as error:  # what is in the file stays; the checkpoint says how many lines count
                self.warn(f"{self._folder / METRICS_FILE}: cannot be flushed ({error}); training goes on")

    def truncate(self) -> None:
        """Delete the lines after the checkpoint, which the resumed run writes again, and a line that a kill cut off."""
        if self._folder is not None and (self._folder / METRICS_FILE).exists():
            lines = read_lines(self._folder)[: self._lines]
            write_text(self._folder / METRICS_FILE, "".join(json.dumps(line) + "\n" for line in lines))

    def state_dict(self) -> dict[str, Any]:
        """The metrics that are not yet written, and the number of lines that are."""
        pending = {name: (_stack(values), weights) for name, (values, weights) in self._pending.items()}
        return {"pending": pending, "lines": self._lines}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Args:
            state: what `state_dict` returned.
        """
        pending = state["pending"].items()
        self._pending = {name: (list(values.unbind()), list(weights)) for name, (values, weights) in pending}
        self._lines = state["lines"]


def _stack(values: list[Tensor | float]) -> Tensor:
    """Numbers or scalar tensors, some of them read from a checkpoint, as one float32 tensor (values,)."""
    device = next((value.device for value in reversed(values) if isinstance(value, Tensor)), torch.device("cpu"))
    return torch.stack([torch.as_tensor(value, dtype=torch.float32, device=device) for value in values])


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, without a line that a kill cut off.

    Args:
        folder: of the run.
    """
    lines = []
    for text in (folder / METRICS_FILE).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and "kind" in line:
            lines.append(line)
    return lines


def plain_number(value: Any) -> Any:
    """A value that JSON can hold: None in place of NaN and infinity.

    Args:
        value: a number, or anything else, which is returned as it is.
    """
    return None if isinstance(value, float) and not math.isfinite(value) else value
