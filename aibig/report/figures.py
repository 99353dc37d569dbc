"""Pictures as SVG text, one function each, from plain numbers. Knows no run and no page.

Drawn to be legible on a light and on a dark page: what is ink takes the text's colour, the ground is left empty.
N rows, C classes.
"""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aibig.errors import UserError
from aibig.metrics.functions import calibration_bins, ranked_classes, ranking_scores

POINTS_AT_MOST = 500  # of a curve
DOTS_AT_MOST = 2_000  # of a scatter plot
CURVES_AT_MOST = 10  # in one picture
CELLS_NUMBERED = 12  # classes up to which a confusion matrix shows its counts
GIF_BYTES_AT_MOST = 700_000

INK = "#010203"  # stands for the colour of the page's text until the SVG is written
COLOURS = (  # each at least 3:1 against white and against #15171c
    *("#3d82f6", "#d9701e", "#1f9d6b", "#a066d3", "#e0524f"),
    *("#1795a5", "#a8784a", "#d4569a", "#7d8590", "#8f8f1f"),
)
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "aibig",
    "text.parse_math": False,  # a class may be called "$"
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-4, 6),
    "grid.color": INK,
    "grid.alpha": 0.13,
    "lines.linewidth": 1.7,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@dataclass
class Line:
    """A curve and its name."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def curves(lines: Sequence[Line], *, x: str, y: str, log: bool = False, legend: bool = False) -> str:
    """Curves over a common axis; one without points keeps its colour for itself.

    log: the vertical axis is logarithmic, if values are above 0 and far apart. legend: also for a single curve.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    with drawing() as (figure, axes):
        for line, colour in zip(lines, COLOURS * len(lines), strict=False):
            if not len(line.x):
                continue
            index = thinned(len(line.x))
            axes.plot(
                np.asarray(line.x)[index],
                np.asarray(line.y)[index],
                color=colour,
                marker="o" if len(index) < 4 else None,
                markersize=4,
                label=line.name,
            )
        values = [value for line in lines for value in line.y]
        low, high = min(values), max(values)
        if log and 0 < 10 * low < high:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1e3 * low else (1,)))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter(decimal)
        axes.set(xlabel=x, ylabel=y)
        if legend or len(lines) > 1:
            axes.legend()
        return svg(figure)


def confusion_matrix(counts: NDArray[np.integer], names: Sequence[str]) -> str:
    """Rows of each true class (C, C) by predicted class; the colour is the share of the true class."""
    from matplotlib.colors import LinearSegmentedColormap

    classes = len(names)
    side = min(7.5, max(3.0, 1.8 + 0.26 * classes))
    numbered = classes <= CELLS_NUMBERED
    share = counts / counts.sum(1, keepdims=True).clip(1)
    clear_to_blue = LinearSegmentedColormap.from_list("clear", [(0.24, 0.51, 0.96, 0.0), (0.24, 0.51, 0.96, 0.85)])
    with drawing(max(5.4, side * 1.18), side) as (figure, axes):
        axes.grid(False)
        picture = axes.imshow(share, cmap=clear_to_blue, vmin=0, vmax=1, interpolation="nearest")
        step = -(-classes // 25)
        ticks = range(0, classes, step)
        labels = [short(names[one]) for one in ticks]
        axes.set_xticks(ticks, labels, rotation=90 if max(map(len, labels)) > 2 else 0, fontsize=9)
        axes.set_yticks(ticks, labels, fontsize=9)
        if numbered:
            for row, column in np.ndindex(classes, classes):
                if counts[row, column]:
                    axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=9)
        axes.set(xlabel="predicted", ylabel="true")
        bar = figure.colorbar(picture, ax=axes, shrink=0.8)
        bar.set_label("share of the true class")
        bar.outline.set_linewidth(0.5)
        return svg(figure)


def roc_curves(probabilities: NDArray[np.floating], targets: NDArray[np.integer], names: Sequence[str]) -> str:
    """True against false positive rate, one class against the rest; of many classes those with the least area."""
    from sklearn.metrics import roc_curve

    with drawing() as (figure, axes):
        axes.plot([0, 1], [0, 1], color=INK, alpha=0.3, linewidth=1, linestyle=(0, (4, 3)))
        for label, score, wanted, colour in _ranked(probabilities, targets, names, 0):
            false, true, _ = roc_curve(wanted, score)
            index = thinned(len(false), 200)
            axes.plot(false[index], true[index], color=colour, label=label)
        axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
        axes.legend(loc="lower right", fontsize=8)
        return svg(figure)


def precision_recall_curves(
    probabilities: NDArray[np.floating], targets: NDArray[np.integer], names: Sequence[str]
) -> str:
    """Precision against recall, one class against the rest; of many classes those with the least area."""
    from sklearn.metrics import precision_recall_curve

    with drawing() as (figure, axes):
        for label, score, wanted, colour in _ranked(probabilities, targets, names, 1):
            precision, recall, _ = precision_recall_curve(wanted, score)
            index = thinned(len(recall), 200)
            axes.plot(recall[index], precision[index], color=colour, label=label, drawstyle="steps-pre")
        axes.set(xlabel="recall", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
        axes.legend(loc="lower left", fontsize=8)
        return svg(figure)


def _ranked(
    probabilities: NDArray[np.floating], targets: NDArray[np.integer], names: Sequence[str], which: int
) -> Iterator[tuple[str, NDArray[np.floating], NDArray[np.bool_], str]]:
    """(label, scores, wanted, colour) of the classes with the lowest score of `ranking_scores`, worst first."""
    found = []
    for one in ranked_classes(targets, len(names)):
        score, wanted = probabilities[:, one], targets == one
        found.append((ranking_scores(score, wanted)[which], names[one], score, wanted))
    found.sort(key=lambda row: row[0])
    for (area, name, score, wanted), colour in zip(found[:CURVES_AT_MOST], COLOURS, strict=False):
        yield f"{short(name)}: {area:.3f}", score, wanted, colour


def calibration_diagram(probabilities: NDArray[np.floating], targets: NDArray[np.integer]) -> str:
    """Accuracy of the rows in each bin of confidence, and how many those are."""
    confidence, right, rows = calibration_bins(probabilities, targets)
    there = rows > 0
    with drawing() as (figure, axes):
        below = axes.twinx()
        edges = np.linspace(0, 1, len(rows) + 1)
        below.bar(edges[:-1], rows, width=np.diff(edges), align="edge", color=COLOURS[8], alpha=0.35)
        below.set(ylabel="rows (bars)", ylim=(0, rows.max() * 2.5))
        below.grid(False)
        below.spines["right"].set_visible(True)
        axes.plot([0, 1], [0, 1], color=INK, alpha=0.35, linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(
            confidence[there] / rows[there], right[there] / rows[there], color=COLOURS[0], marker="o", markersize=4
        )
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.01), ylim=(0, 1.03))
        axes.set_zorder(below.get_zorder() + 1)
        axes.patch.set_visible(False)
        return svg(figure)


def predicted_against_true(predictions: NDArray[np.floating], targets: NDArray[np.floating]) -> str:
    """A dot for each of (N,) rows; on the line they would be right."""
    index = thinned(len(targets), DOTS_AT_MOST)
    with drawing() as (figure, axes):
        both = np.concatenate([predictions, targets])
        ends = [both.min(), both.max()]
        axes.plot(ends, ends, color=INK, alpha=0.35, linewidth=1, linestyle=(0, (4, 3)))
        axes.scatter(
            targets[index],
            predictions[index],
            s=14,
            color=COLOURS[0],
            alpha=0.6,
            linewidths=0,
            rasterized=len(index) > 500,
        )
        axes.set(xlabel="true", ylabel="predicted")
        return svg(figure)


def histogram(values: NDArray[Any], *, x: str, y: str, zero: bool = False) -> str:
    """How often values (N,) come. zero: with a line at 0."""
    with drawing() as (figure, axes):
        spread = float(values.max() - values.min())
        edges: Any = np.histogram_bin_edges(values, bins=min(40, max(5, int(len(values) ** 0.5)))) if spread else 5
        axes.hist(values, bins=edges, color=COLOURS[0], alpha=0.8)
        if zero:
            axes.axvline(0, color=INK, alpha=0.5, linewidth=1)
        axes.set(xlabel=x, ylabel=y)
        axes.yaxis.get_major_locator().set_params(integer=True)
        return svg(figure)


def animation(frames: Sequence[NDArray[np.uint8]], seconds: float) -> str:
    """`gif` as a data URI."""
    return "data:image/gif;base64," + base64.b64encode(gif(frames, seconds)).decode()


def video(frames: Sequence[NDArray[np.uint8]], seconds: float, path: str) -> None:
    """Write RGB frames (height, width, 3) to a video file of so many seconds; what its name ends with says the format.

    Raises UserError where moviepy, gymnasium's own choice, is missing or can't write that.
    """
    try:
        from moviepy import ImageSequenceClip
    except ImportError as error:
        raise UserError(f"--video needs moviepy: pip install 'aibig[video]' ({error})") from None
    try:
        ImageSequenceClip([*frames], fps=len(frames) / max(seconds, 1e-3)).write_videofile(path, logger=None)
    except (OSError, ValueError) as error:
        raise UserError(f"--video {path}: {str(error).splitlines()[0]}") from None


def gif(frames: Sequence[NDArray[np.uint8]], seconds: float) -> bytes:
    """A GIF of RGB frames (height, width, 3) that takes so many seconds.

    Frames are left out and made smaller until it is no larger than GIF_BYTES_AT_MOST.
    """
    from PIL import Image

    count, width = 120, 320
    while True:
        index = thinned(len(frames), count)
        pictures = []
        for one in index:
            picture = Image.fromarray(frames[one])
            if picture.width > width:
                picture = picture.resize((width, max(1, picture.height * width // picture.width)))
            pictures.append(picture.quantize(64))
        buffer = io.BytesIO()
        each = max(20, round(1000 * seconds / len(index)))  # browsers slow down what is faster
        pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=each, loop=0)
        if buffer.tell() <= GIF_BYTES_AT_MOST or count <= 10:
            return buffer.getvalue()
        count, width = count * 3 // 4, width * 3 // 4


@contextmanager
def drawing(width: float = 5.4, height: float = 3.3) -> Iterator[tuple[Any, Any]]:
    """(figure, axes) of so many inches in this module's style; no window, and no state of pyplot's."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.xaxis.set_major_formatter(decimal)
        axes.yaxis.set_major_formatter(decimal)
        yield figure, axes


def svg(figure: Any) -> str:
    """A figure as an <svg> element that can stand beside others on a page and grows with its place."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser has fonts that matplotlib has not
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, dpi=150, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1))
    return text.replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans', sans-serif")


def thinned(count: int, at_most: int = POINTS_AT_MOST) -> NDArray[np.int64]:
    """The numbers of at most so many of `count` points, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, at_most)).round().astype(np.int64))


def decimal(value: float, place: object = None) -> str:
    """A number beside an axis, written out: 40,000 and 0.0035. place: of the tick, as matplotlib gives it."""
    return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"


def short(name: str, length: int = 14) -> str:
    """A name that fits beside an axis: its beginning and its end, where those of other classes may differ."""
    return name if len(name) <= length else f"{name[: length - 6]}…{name[-5:]}"
