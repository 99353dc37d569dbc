"""What a run says of itself: metrics.jsonl, the progress bar, a line now and then. Knows no task.

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

from aibig.training.checkpoints.checkpoint import flush, write_text
from aibig.training.devices.distributed import World

FILE = "metrics.jsonl"


class RunLog:
    """Collects the metrics of micro-batches; writes one JSON object a line.

    folder: where metrics.jsonl goes, made if it is not there; None for nowhere.
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

    def show_bar(self, step: int, total: int | None) -> None:
        """Show progress, if a person watches."""
        if self._world.is_main and sys.stderr.isatty():
            self._bar = tqdm(initial=step, total=total, unit="step", dynamic_ncols=True, smoothing=0.05)

    def advance(self) -> None:
        """One update more."""
        if self._bar is not None:
            self._bar.update()

    def add(self, metrics: Mapping[str, Tensor | float], weight: float) -> None:
        """Keep the metrics of a micro-batch: numbers or detached scalar tensors, means over `weight`."""
        for name, value in metrics.items():
            if name not in self._pending:
                self._pending[name] = ([], [])
            values, weights = self._pending[name]
            values.append(value)
            weights.append(weight)

    def means(self) -> dict[str, float]:
        """The weighted mean of each metric over all micro-batches and ranks since the last call.

        Values that are not finite, those of skipped updates, are left out.
        """
        means = {}
        for name, (values, weights) in self._pending.items():
            column = column_of(values).cpu().double()
            weight = torch.tensor(weights, dtype=torch.float64)
            finite = column.isfinite()
            sums = torch.stack([(column * weight)[finite].sum(), weight[finite].sum()])
            total, total_weight = self._world.sum(sums).tolist()
            means[name] = total / total_weight if total_weight else math.nan
        self._pending = {}
        return means

    def values(self, name: str) -> list[float]:
        """The values of a metric since the last call of `means`."""
        return [float(value) for value in self._pending.get(name, ([], []))[0]]

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl; a full disk is reported once and does not stop the run."""
        if self._folder is None:
            return
        plain = {key: plain_number(value) for key, value in line.items()}
        try:
            with (self._folder / FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(plain) + "\n")
            self._lines += 1
            self._disk_is_full = False
        except OSError as error:
            if not self._disk_is_full:
                self.say(f"{self._folder / FILE}: cannot be written ({error}); training goes on without it")
            self._disk_is_full = True

    def show(self, metrics: Mapping[str, float]) -> None:
        """Show a few numbers beside the bar."""
        if self._bar is not None:
            self._bar.set_postfix({key: f"{value:.4g}" for key, value in metrics.items()}, refresh=False)

    def note(self, text: str) -> None:
        """Tell whoever watches; silent when nobody does."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)

    def say(self, text: str) -> None:
        """Tell the user something that matters, watched or not, on standard error."""
        if self._world.is_main:
            tqdm.write(text, file=sys.stderr)

    @contextmanager
    def open_until_here(self) -> Iterator[None]:
        """The bar is taken away at the end of this context, however it ends."""
        try:
            yield
        finally:
            if self._bar is not None:
                self._bar.close()
                self._bar = None

    def rewind(self) -> None:
        """Forget the lines after the checkpoint, which the resumed run writes again, and one cut off by a kill."""
        if self._folder is not None and (self._folder / FILE).exists():
            kept = read_lines(self._folder)[: self._lines]
            write_text(self._folder / FILE, "".join(json.dumps(line) + "\n" for line in kept))

    def flush(self) -> None:
        """See the written lines onto the disk."""
        if self._folder is not None and (self._folder / FILE).exists():
            try:
                with (self._folder / FILE).open("a") as file:
                    flush(file)
            except OSError as error:  # what is in the file stays; the checkpoint says how many lines count
                self.say(f"{self._folder / FILE}: cannot be flushed ({error}); training goes on")

    def state_dict(self) -> dict[str, Any]:
        """The metrics not yet written, and how many lines were."""
        pending = {name: (column_of(values), weights) for name, (values, weights) in self._pending.items()}
        return {"pending": pending, "lines": self._lines}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        pending = state["pending"].items()
        self._pending = {name: (list(values.unbind()), list(weights)) for name, (values, weights) in pending}
        self._lines = state["lines"]


def column_of(values: list[Tensor | float]) -> Tensor:
    """Numbers or scalar tensors, some of them read from a checkpoint, as one float32 tensor (values,)."""
    device = next((one.device for one in reversed(values) if isinstance(one, Tensor)), torch.device("cpu"))
    return torch.stack([torch.as_tensor(one, dtype=torch.float32, device=device) for one in values])


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl; one that a kill cut off is passed over."""
    lines = []
    for text in (folder / FILE).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and "kind" in line:
            lines.append(line)
    return lines


def plain_number(value: Any) -> Any:
    """None in place of what JSON has no number for."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
