"""A learning rate found by trying all of them once (arXiv 1506.01186, section 3.3). Leaves no run behind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aibig.config.run_config import load_config
from aibig.config.settings import PositiveFloat, PositiveInt, checked
from aibig.errors import UserError
from aibig.runs.few_steps import Enough, rehearse
from aibig.training.callbacks import Callback

AVERAGED_STEPS = 5  # the mean of so many losses must not exceed
DIVERGED = 4.0  # times the lowest such mean
SMOOTHED_SHARE = 0.05  # of the updates: the standard deviation of the Gaussian that smooths the curve
PICTURES = (".svg", ".png")


@dataclass
class Finding:
    """What was seen at each rate: the loss, and the loss smoothed; and a rate to begin with.

    suggestion: None if no rate lowered the loss. note: what to think of it, in words.
    """

    suggestion: float | None = None
    note: str = ""
    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    smoothed: list[float] = field(default_factory=list)


@checked
def find_lr(
    config: str | Path | Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    *,
    low: PositiveFloat = 1e-6,
    high: PositiveFloat = 1.0,
    steps: PositiveInt = 100,
    picture: str | None = None,
) -> Finding:
    """Train what `config` describes for `steps` updates, while the learning rate rises from `low` to `high`.

    It rises by the same factor in each update, and no further once the loss is four times the lowest, or not finite.
    The suggestion is the rate at which the smoothed loss fell most steeply: a safe one to begin with, of which
    two to five times as much is often better still. picture: a .svg or .png file to draw.

    Raises UserError for whatever is wrong with what was asked, before anything is trained.
    """
    if low >= high or steps < 2:
        raise UserError(f"low {low:g} must be below high {high:g}, and steps at least 2")
    if picture is not None and Path(picture).suffix not in PICTURES:
        raise UserError(f"{picture}: a picture's name ends with {' or '.join(PICTURES)}")
    if picture is not None and not Path(picture).parent.is_dir():
        raise UserError(f"{picture}: there is no folder {Path(picture).parent}; make it first")
    run = load_config(config, overrides)
    base = run.values["optimizer"].get("lr")
    if not base:
        raise UserError(f"optimizer: {run.named('optimizer')!r} has no setting 'lr' to be found")
    from aibig.runs.train import build

    seen = Seen(low, high, steps)
    trainer, task = build(run, [seen])
    trainer.ema_decay = None
    growth = (high / low) ** (1 / (steps - 1))
    rehearse(trainer, task, lambda step, _: low * growth**step / base, steps=steps, log_every=1)
    finding = seen.judged()
    if task.target_networks:
        finding.note += "; the loss chases a target that moves as the model learns, and says little of the rate"
    if picture is not None:
        draw(finding, Path(picture), f"{run.name}: {run.named('optimizer')}")
    return finding


class Seen(Callback):
    """Notes rate and loss of every update; has seen enough once the loss diverges."""

    def __init__(self, low: float, high: float, steps: int) -> None:
        self.finding, self._low, self._high = Finding(), low, high
        self._spread = SMOOTHED_SHARE * steps
        self._lowest = math.inf

    def on_log(self, line: Mapping[str, Any]) -> None:
        """One update more."""
        finding, loss = self.finding, line["loss"]
        if not math.isfinite(loss):
            raise Enough
        finding.rates.append(line["lr"])
        finding.losses.append(loss)
        latest = finding.losses[-AVERAGED_STEPS:]
        mean = sum(latest) / len(latest)
        self._lowest = min(mean, self._lowest)
        if mean > DIVERGED * self._lowest > 0:
            raise Enough

    def judged(self) -> Finding:
        """The finding with its suggestion."""
        finding = self.finding
        if len(finding.losses) > 1:
            smoothed = smooth(np.array(finding.losses), self._spread)
            finding.smoothed, lowest = smoothed.tolist(), int(smoothed.argmin())
            falls = np.gradient(smoothed)[: lowest + 1]
            if falls.min() < 0:
                finding.suggestion = float(f"{finding.rates[int(falls.argmin())]:.1e}")
                finding.note = f"the loss was lowest at {finding.rates[lowest]:.1e}"
                if lowest == len(smoothed) - 1:
                    finding.note += ", the highest rate tried; try higher ones"
                return finding
        finding.note = f"no rate from {self._low:g} to {self._high:g} lowered the loss"
        return finding


def smooth(values: NDArray[np.float64], spread: float) -> NDArray[np.float64]:
    """The mean of `values` around each, weighted by a Gaussian: unlike a moving average it does not lag behind."""
    place = np.arange(len(values))
    weights = np.exp(-(((place[:, None] - place) / spread) ** 2) / 2)
    return weights @ values / weights.sum(1)


def draw(finding: Finding, path: Path, title: str) -> None:
    """The loss over the rate, with the suggestion, as a picture. Raises UserError if it can't be written."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot(xscale="log", xlabel="learning rate", ylabel="training loss", title=title)
    axes.plot(finding.rates, finding.losses, color="0.8", label="each update")
    axes.plot(finding.rates, finding.smoothed, label="smoothed")
    if finding.suggestion is not None:
        axes.axvline(finding.suggestion, color="C1", linestyle="--", label=f"suggestion: {finding.suggestion:g}")
        low, high = min(finding.smoothed), finding.smoothed[0]
        axes.set_ylim(low - (high - low) / 4, high + (high - low) / 2)  # the divergence would flatten the rest
    axes.legend()
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror or error}") from None
