"""Figures as SVG text, one function each, from plain numbers. Knows no run and no page.

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
from aibig.metrics.classification import calibration_bins, ranked_classes, ranking_scores

MAX_POINTS = 500  # of a curve
MAX_DOTS = 2_000  # of a scatter plot
MAX_CURVES = 10  # in one figure
MAX_NUMBERED_CLASSES = 12  # up to which a confusion matrix shows its counts
MAX_GIF_BYTES = 700_000

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
    """A curve and its name.

    Args:
        name: in the legend.
        x: its points' positions, (N,).
        y: its points' values, (N,).
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]


def curves(lines: Sequence[Line], *, x: str, y: str, log: bool = False, legend: bool = False) -> str:
    """Curves over a common axis, as SVG.

    Args:
        lines: the curves; one without points keeps its colour for itself.
        x: label of the horizontal axis.
        y: label of the vertical axis.
        log: whether the vertical axis is logarithmic, if values are above 0 and far apart.
        legend: whether even a single curve has a legend.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    with new_figure() as (figure, axes):
        for line, colour in zip(lines, COLOURS * len(lines), strict=False):
            if not len(line.x):
                continue
            index = evenly_spaced(len(line.x))
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
        return to_svg(figure)


def confusion_matrix(counts: NDArray[np.integer], names: Sequence[str]) -> str:
    """A confusion matrix, as SVG; the colour is the share of the true class.

    Args:
        counts: rows of each true class by predicted class, (C, C).
        names: of the classes.
    """
    from matplotlib.colors import LinearSegmentedColormap

    classes = len(names)
    side = min(7.5, max(3.0, 1.8 + 0.26 * classes))
    is_numbered = classes <= MAX_NUMBERED_CLASSES
    share = counts / counts.sum(1, keepdims=True).clip(1)
    clear_to_blue = LinearSegmentedColormap.from_list("clear", [(0.24, 0.51, 0.96, 0.0), (0.24, 0.51, 0.96, 0.85)])
    with new_figure(max(5.4, side * 1.18), side) as (figure, axes):
        axes.grid(False)
        image = axes.imshow(share, cmap=clear_to_blue, vmin=0, vmax=1, interpolation="nearest")
        step = -(-classes // 25)
        ticks = range(0, classes, step)
        labels = [shorten(names[index]) for index in ticks]
        axes.set_xticks(ticks, labels, rotation=90 if max(map(len, labels)) > 2 else 0, fontsize=9)
        axes.set_yticks(ticks, labels, fontsize=9)
        if is_numbered:
            for row, column in np.ndindex(classes, classes):
                if counts[row, column]:
                    axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=9)
        axes.set(xlabel="predicted", ylabel="true")
        bar = figure.colorbar(image, ax=axes, shrink=0.8)
        bar.set_label("share of the true class")
        bar.outline.set_linewidth(0.5)
        return to_svg(figure)


def roc_curves(probabilities: NDArray[np.floating], targets: NDArray[np.integer], names: Sequence[str]) -> str:
    """ROC curves of each class against the rest, as SVG; of many classes those with the least area.

    Args:
        probabilities: of classes, (N, C).
        targets: true classes, (N,).
        names: of the classes.
    """
    from sklearn.metrics import roc_curve

    with new_figure() as (figure, axes):
        axes.plot([0, 1], [0, 1], color=INK, alpha=0.3, linewidth=1, linestyle=(0, (4, 3)))
        for label, scores, is_class, colour in _worst_classes(probabilities, targets, names, 0):
            false, true, _ = roc_curve(is_class, scores)
            index = evenly_spaced(len(false), 200)
            axes.plot(false[index], true[index], color=colour, label=label)
        axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
        axes.legend(loc="lower right", fontsize=8)
        return to_svg(figure)


def precision_recall_curves(
    probabilities: NDArray[np.floating], targets: NDArray[np.integer], names: Sequence[str]
) -> str:
    """Precision against recall of each class against the rest, as SVG; of many classes those with the least area.

    Args:
        probabilities: of classes, (N, C).
        targets: true classes, (N,).
        names: of the classes.
    """
    from sklearn.metrics import precision_recall_curve

    with new_figure() as (figure, axes):
        for label, scores, is_class, colour in _worst_classes(probabilities, targets, names, 1):
            precision, recall, _ = precision_recall_curve(is_class, scores)
            index = evenly_spaced(len(recall), 200)
            axes.plot(recall[index], precision[index], color=colour, label=label, drawstyle="steps-pre")
        axes.set(xlabel="recall", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
        axes.legend(loc="lower left", fontsize=8)
        return to_svg(figure)


def _worst_classes(
    probabilities: NDArray[np.floating], targets: NDArray[np.integer], names: Sequence[str], area_index: int
) -> Iterator[tuple[str, NDArray[np.floating], NDArray[np.bool_], str]]:
    """(label, scores, is_class, colour) of the classes with the least area of `ranking_scores`, worst first."""
    classes = []
    for index in ranked_classes(targets, len(names)):
        scores, is_class = probabilities[:, index], targets == index
        classes.append((ranking_scores(scores, is_class)[area_index], names[index], scores, is_class))
    classes.sort(key=lambda row: row[0])
    for (area, name, scores, is_class), colour in zip(classes[:MAX_CURVES], COLOURS, strict=False):
        yield f"{shorten(name)}: {area:.3f}", scores, is_class, colour


def calibration_diagram(probabilities: NDArray[np.floating], targets: NDArray[np.integer]) -> str:
    """Accuracy of the rows in each bin of confidence, and how many those are, as SVG.

    Args:
        probabilities: of classes, (N, C).
        targets: true classes, (N,).
    """
    confidence, correct, rows = calibration_bins(probabilities, targets)
    filled = rows > 0
    with new_figure() as (figure, axes):
        bars = axes.twinx()
        edges = np.linspace(0, 1, len(rows) + 1)
        bars.bar(edges[:-1], rows, width=np.diff(edges), align="edge", color=COLOURS[8], alpha=0.35)
        bars.set(ylabel="rows (bars)", ylim=(0, rows.max() * 2.5))
        bars.grid(False)
        bars.spines["right"].set_visible(True)
        axes.plot([0, 1], [0, 1], color=INK, alpha=0.35, linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(
            confidence[filled] / rows[filled],
            correct[filled] / rows[filled],
            color=COLOURS[0],
            marker="o",
            markersize=4,
        )
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.01), ylim=(0, 1.03))
        axes.set_zorder(bars.get_zorder() + 1)
        axes.patch.set_visible(False)
        return to_svg(figure)


def predicted_against_true(predictions: NDArray[np.floating], targets: NDArray[np.floating]) -> str:
    """A dot for each row, as SVG; on the line a prediction is right.

    Args:
        predictions: (N,).
        targets: (N,).
    """
    index = evenly_spaced(len(targets), MAX_DOTS)
    with new_figure() as (figure, axes):
        values = np.concatenate([predictions, targets])
        ends = [values.min(), values.max()]
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
        return to_svg(figure)


def histogram(values: NDArray[Any], *, x: str, y: str, zero: bool = False) -> str:
    """How often values come, as SVG.

    Args:
        values: (N,).
        x: label of the horizontal axis.
        y: label of the vertical axis.
        zero: whether there is a line at 0.
    """
    with new_figure() as (figure, axes):
        spread = float(values.max() - values.min())
        edges: Any = np.histogram_bin_edges(values, bins=min(40, max(5, int(len(values) ** 0.5)))) if spread else 5
        axes.hist(values, bins=edges, color=COLOURS[0], alpha=0.8)
        if zero:
            axes.axvline(0, color=INK, alpha=0.5, linewidth=1)
        axes.set(xlabel=x, ylabel=y)
        axes.yaxis.get_major_locator().set_params(integer=True)
        return to_svg(figure)


def gif_uri(frames: Sequence[NDArray[np.uint8]], seconds: float) -> str:
    """`gif` as a data URI.

    Args:
        frames: RGB images, (H, W, 3) each.
        seconds: that the animation takes.
    """
    return "data:image/gif;base64," + base64.b64encode(gif(frames, seconds)).decode()


def write_video(frames: Sequence[NDArray[np.uint8]], seconds: float, path: str) -> None:
    """Write a video file, with moviepy as gymnasium does.

    Args:
        frames: RGB images, (H, W, 3) each.
        seconds: that the video takes.
        path: of the file; its suffix says the format.

    Raises:
        UserError: moviepy is missing, or can't write that format.
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
    """An animated GIF. Frames are left out and made smaller until it is no larger than MAX_GIF_BYTES.

    Args:
        frames: RGB images, (H, W, 3) each.
        seconds: that the animation takes.
    """
    from PIL import Image

    count, width = 120, 320
    while True:
        indices = evenly_spaced(len(frames), count)
        images = []
        for index in indices:
            image = Image.fromarray(frames[index])
            if image.width > width:
                image = image.resize((width, max(1, image.height * width // image.width)))
            images.append(image.quantize(64))
        buffer = io.BytesIO()
        milliseconds = max(20, round(1000 * seconds / len(indices)))  # browsers slow down what is faster
        images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=milliseconds, loop=0)
        content = buffer.getvalue()
        if len(content) <= MAX_GIF_BYTES or count <= 10:
            return content
        count, width = count * 3 // 4, width * 3 // 4


@contextmanager
def new_figure(width: float = 5.4, height: float = 3.3) -> Iterator[tuple[Any, Any]]:
    """(figure, axes) in this module's style; no window, and no state of pyplot's.

    Args:
        width: in inches.
        height: in inches.
    """
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


def to_svg(figure: Any) -> str:
    """A figure as an <svg> element that can stand beside others on a page and grows with its place.

    Args:
        figure: matplotlib's, from `new_figure`.
    """
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser has fonts that matplotlib has not
        no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, dpi=150, metadata=no_metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1))
    return text.replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans', sans-serif")


def evenly_spaced(count: int, maximum: int = MAX_POINTS) -> NDArray[np.int64]:
    """Indices of points to keep, the first and the last among them.

    Args:
        count: how many points there are.
        maximum: how many are kept at most.
    """
    return np.unique(np.linspace(0, count - 1, min(count, maximum)).round().astype(np.int64))


def decimal(value: float, position: object = None) -> str:
    """A number beside an axis, written out: 40,000 and 0.0035.

    Args:
        value: of the tick.
        position: of the tick, which matplotlib gives.
    """
    return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"


def shorten(name: str, length: int = 14) -> str:
    """A name that fits beside an axis: its beginning and its end, where those of other classes may differ.

    Args:
        name: in full.
        length: in characters, at most.
    """
    return name if len(name) <= length else f"{name[: length - 6]}…{name[-5:]}"
