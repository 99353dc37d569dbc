"""Finds a learning rate with an LR range test (arXiv 1506.01186, section 3.3). Writes no run."""

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
from aibig.runs.few_steps import StopTraining, run_few_steps
from aibig.training.callbacks import Callback

AVERAGED_STEPS = 5  # the mean of this number of losses must not exceed
DIVERGED = 4.0  # times the lowest such mean
SMOOTHED_SHARE = 0.05  # standard deviation of the Gaussian that smooths the curve, as a fraction of the updates
PLOT_FORMATS = (".svg", ".png")


@dataclass
class LearningRateCurve:
    """The loss at each learning rate, and a suggested learning rate.

    Args:
        suggestion: suggested learning rate; None if no rate lowered the loss.
        note: remark about the suggestion.
        rates: learning rate of each update.
        losses: loss of each update.
        smoothed: smoothed losses.
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
    plot: str | None = None,
) -> LearningRateCurve:
    """Find a learning rate: train briefly at rising rates, and return the rate at which the loss falls most steeply.

    The rate rises by the same factor in each update, until the loss is four times the lowest, or not finite. The
    suggestion is a safe initial choice; two to five times as much is often better.

    Args:
        config: as for `aibig.train`.
        overrides: as for `aibig.train`.
        low: learning rate of the first update.
        high: learning rate of the last update.
        steps: number of updates, at least 2.
        plot: file of a plot of the curve, .svg or .png; None: no plot.

    Raises:
        UserError: the config or an argument has a mistake; nothing was trained.
    """
    if low >= high or steps < 2:
        raise UserError(f"low {low:g} must be below high {high:g}, and steps at least 2")
    if plot is not None and Path(plot).suffix not in PLOT_FORMATS:
        raise UserError(f"{plot}: a plot's name ends with {' or '.join(PLOT_FORMATS)}")
    if plot is not None and not Path(plot).parent.is_dir():
        raise UserError(f"{plot}: there is no folder {Path(plot).parent}; make it first")
    run = load_config(config, overrides)
    base = run.values["optimizer"].get("lr")
    if not base:
        raise UserError(f"optimizer: {run.name_of('optimizer')!r} has no setting 'lr'; use another optimizer")
    from aibig.runs.train import build

    recorder = CurveRecorder(low, high, steps)
    trainer, task = build(run, [recorder])
    trainer.ema_decay = None
    growth = (high / low) ** (1 / (steps - 1))
    run_few_steps(trainer, task, lambda step, _: low * growth**step / base, max_steps=steps, log_every=1)
    curve = recorder.finish()
    if task.target_networks:
        curve.note += "; the loss depends on a target network that changes, and says little about the rate"
    if plot is not None:
        save_plot(curve, Path(plot), f"{run.name}: {run.name_of('optimizer')}")
    return curve


class CurveRecorder(Callback):
    """Records learning rate and loss of every update; stops training once the loss diverges.

    Args:
        low: lowest learning rate.
        high: highest learning rate.
        steps: number of updates.
    """

    def __init__(self, low: float, high: float, steps: int) -> None:
        self.curve, self._low, self._high = LearningRateCurve(), low, high
        self._std = SMOOTHED_SHARE * steps
        self._lowest = math.inf

    def on_log(self, record: Mapping[str, Any]) -> None:
        """Record an update."""
        loss = record["loss"]
        if not math.isfinite(loss):
            raise StopTraining
        self.curve.rates.append(record["lr"])
        self.curve.losses.append(loss)
        latest = self.curve.losses[-AVERAGED_STEPS:]
        mean = sum(latest) / len(latest)
        self._lowest = min(mean, self._lowest)
        if mean > DIVERGED * self._lowest > 0:
            raise StopTraining

    def finish(self) -> LearningRateCurve:
        """The curve with its suggestion."""
        curve = self.curve
        if len(curve.losses) > 1:
            smoothed = smooth(np.array(curve.losses), self._std)
            curve.smoothed, lowest = smoothed.tolist(), int(smoothed.argmin())
            slopes = np.gradient(smoothed)[: lowest + 1]
            if slopes.min() < 0:
                curve.suggestion = float(f"{curve.rates[int(slopes.argmin())]:.1e}")
                curve.note = f"the loss was lowest at {curve.rates[lowest]:.1e}"
                if lowest == len(smoothed) - 1:
                    curve.note += ", the highest rate tried; try higher ones"
                return curve
        curve.note = f"no rate from {self._low:g} to {self._high:g} lowered the loss"
        return curve


def smooth(values: NDArray[np.float64], std: float) -> NDArray[np.float64]:
    """Gaussian smoothing, which does not lag behind as a moving average does.

    Args:
        values: (N,).
        std: standard deviation of the Gaussian, in values.
    """
    index = np.arange(len(values))
    weights = np.exp(-(((index[:, None] - index) / std) ** 2) / 2)
    return weights @ values / weights.sum(1)


def save_plot(curve: LearningRateCurve, path: Path, title: str) -> None:
    """Plot the loss over the learning rate, with the suggestion.

    Args:
        curve: curve to plot.
        path: file of the plot.
        title: title of the plot.

    Raises:
        UserError: the file can't be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot(xscale="log", xlabel="learning rate", ylabel="training loss", title=title)
    axes.plot(curve.rates, curve.losses, color="0.8", label="each update")
    axes.plot(curve.rates, curve.smoothed, label="smoothed")
    if curve.suggestion is not None:
        axes.axvline(curve.suggestion, color="C1", linestyle="--", label=f"suggestion: {curve.suggestion:g}")
        low, high = min(curve.smoothed), curve.smoothed[0]
        axes.set_ylim(low - (high - low) / 4, high + (high - low) / 2)  # the divergence would flatten the rest
    axes.legend()
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror or error}") from None
