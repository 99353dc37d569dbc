"""The page of a run: what it measured, how it learned, where it errs, how it was made. Knows no task by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from aibig.errors import UserError
from aibig.inference.predictor import load_predictor
from aibig.metrics.functions import MEANINGS
from aibig.metrics.outcomes import ClassificationOutcome, EpisodeOutcome, Outcome, RegressionOutcome, TokenOutcome
from aibig.report import figures, page
from aibig.report.figures import Line
from aibig.report.record import Record

OUTPUTS_AT_MOST = 3  # of a regression, each with pictures of its own
CONFUSIONS_AT_MOST = 5  # in words
ROWS_UNFOLDED = 15  # of a table
PROMPT_CHARACTERS, SAMPLE_TOKENS = 80, 300


@dataclass
class Measured:
    """What an evaluation found, to be shown. on: what it was measured on, in words; command: what measures it again."""

    on: str
    command: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    outcome: Outcome | None = None


def write_run_page(file: Path, folder: Path, record: Record | None, measured: Measured) -> Path:
    """Write the page of the run, or the model without one, in `folder`. Raises UserError if it can't be written."""
    name = folder.resolve().name if record is None else record.name
    return page.write_page(
        file,
        name,
        "a model without its run" if record is None else summary(record),
        [
            "" if record is None or record.result is not None else unfinished(record, bool(measured.metrics)),
            page.section(f"Measured on {measured.on}", metrics_table(measured)) if measured.metrics else "",
            "" if record is None else page.section("Learning", learning(record)),
            *outcome_parts(measured.outcome, folder),
            "" if record is None else made(record, measured),
        ],
    )


def summary(record: Record) -> str:
    """A run in a line."""
    named = [str(record.settings[one]["name"]) for one in ("model", "env", "data") if one in record.settings]
    words = [f"{record.settings['task']['name']}: {named[0]} on {named[1]}"]
    result = record.result
    if result is not None:
        throughput = result["throughput"]
        words.append(f"{result['parameters']:,} parameters")
        words.append(f"{result['steps']:,} steps in {result['train_seconds']:.1f} s of training")
        words.append(f"{throughput['value']:,.0f} {throughput['unit']} on {result['device']}, {result['precision']}")
    return " · ".join(words)


def unfinished(record: Record, measured: bool) -> str:
    """That a run has not ended, and how far it came."""
    steps = [line.get("step", 0) for line in record.lines]
    where = f"It came to step {max(steps):,} so far." if steps else "Nothing has been logged yet."
    model = "what is measured here is the model that it left before" if measured else "there is no model to measure yet"
    again = f"python -m aibig.train --resume --out {record.path}"
    return page.paragraph(
        f"This run is in progress or was interrupted; {model}. {where} If it does not run any more, it goes on with: "
        f"{again}",
        "warning",
    )


def metrics_table(measured: Measured) -> str:
    """Metric, value, interval, meaning."""
    intervals = measured.intervals
    rows = [
        [name, value if math.isfinite(value) else "not finite"]
        + ([interval(intervals[name]) if name in intervals else None] if intervals else [])
        + [MEANINGS.get(name)]
        for name, value in measured.metrics.items()
    ]
    return page.table(["metric", "value", *(["95 % interval"] if intervals else []), "meaning"], rows)


def interval(ends: tuple[float, float]) -> str:
    """An interval in words."""
    return " to ".join(page.shown(one) for one in ends)


# -------------------------------------------------------------------- learning


def learning(record: Record) -> str:
    """Pictures of the log: first what everybody looks at, then whatever else was logged."""
    primary_metric, logged, rates = record.primary_metric, record.logged("train"), record.rates
    selecting = [primary_metric] if primary_metric != "loss" else []  # the loss has its picture
    pictures = [
        loss_figure(record),
        *(log_figure(record, name, f"What selects the best model: {page.words(name)}") for name in selecting),
        log_figure(record, "lr", "Learning rate"),
        log_figure(record, "gradient_norm", "Gradient norm", "Before clipping.", log=True),
        *(log_figure(record, name, "Throughput", unit=page.words(name)) for name in rates),
    ]
    counted = {name.removesuffix("_per_second") for name in rates}
    shown = {"step", "epoch", "seconds", "loss", primary_metric, "lr", "gradient_norm", *rates, *counted}
    others = [name for name in logged if name not in shown and any(record.curve("train", name)[1])]
    return page.grid(*pictures, *(log_figure(record, name, page.words(name)) for name in others))


def loss_figure(record: Record) -> str:
    """Training and validation loss."""
    return drawn(
        "Loss",
        [
            Line("training", *record.curve("train", "loss")),
            Line("validation", *record.curve("validation", "loss")),
            Line("validation (log loss)", *record.curve("validation", "log_loss")),
        ],
        "loss",
    )


def log_figure(
    record: Record, name: str, title: str, caption: str = "", *, unit: str | None = None, log: bool = False
) -> str:
    """What training and validation say of one number."""
    lines = [Line("training", *record.curve("train", name)), Line("validation", *record.curve("validation", name))]
    return drawn(title, lines, unit or page.words(name), caption, log=log)


def drawn(title: str, lines: Sequence[Line], y: str, caption: str = "", *, log: bool = False) -> str:
    """A figure of the lines that have points; nothing if none has."""
    there = [line for line in lines if len(line.x)]
    if not there:
        return ""
    return page.figure(title, figures.curves(there, x="step", y=y, log=log), caption)


# -------------------------------------------------------------------- what was seen


def outcome_parts(outcome: Outcome | None, folder: Path) -> list[str]:
    """Tables and pictures of an outcome, by its kind; none of a model whose outputs are not finite."""
    if outcome is None or not all(math.isfinite(value) for value in outcome.metrics().values()):
        return []
    if isinstance(outcome, ClassificationOutcome):
        return classes_parts(outcome)
    if isinstance(outcome, RegressionOutcome):
        return values_parts(outcome)
    if isinstance(outcome, TokenOutcome):  # an encoder's has no opening, since it writes nothing on
        written = samples(folder, outcome.opening)
        return [page.section("Text that it writes", written)] if written else []
    return returns_parts(outcome, folder) if isinstance(outcome, EpisodeOutcome) else []


def classes_parts(outcome: ClassificationOutcome) -> list[str]:
    """Confusion matrix, ROC, precision-recall, calibration; classes one by one."""
    from sklearn.metrics import confusion_matrix

    probabilities, targets, names = outcome.probabilities, outcome.targets, outcome.class_names
    counts = confusion_matrix(targets, probabilities.argmax(1), labels=np.arange(len(names)))
    matrix = figures.confusion_matrix(counts, names)
    pictures = [page.figure("Confusion matrix", matrix, confusions(counts, names), wide=len(names) > 20)]
    if "roc_auc" in outcome.metrics():
        which = "The area stands beside each class, the worst first"
        which += f"; of {len(names)} classes {figures.CURVES_AT_MOST} are shown." if len(names) > 10 else "."
        pictures += [
            page.figure("ROC, one class against the rest", figures.roc_curves(probabilities, targets, names), which),
            page.figure("Precision and recall", figures.precision_recall_curves(probabilities, targets, names), which),
        ]
    pictures.append(
        page.figure(
            "Calibration",
            figures.calibration_diagram(probabilities, targets),
            "On the dashed line, confidence is how often it is right.",
        )
    )
    rows = [list(row.values()) for row in outcome.per_class()]
    by_class = page.table(["class", "precision", "recall", "F1", "rows"], rows)
    if len(rows) > ROWS_UNFOLDED:
        by_class = page.folded(f"All {len(rows)} classes", by_class)
    return [page.section("Right and wrong", page.grid(*pictures)), page.section("Class by class", by_class)]


def confusions(counts: Any, names: Sequence[str]) -> str:
    """The most frequent mistakes in words."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    worst = [np.unravel_index(one, wrong.shape) for one in np.argsort(wrong, axis=None)[::-1][:CONFUSIONS_AT_MOST]]
    told = [f"{names[row]} for {names[column]} ({wrong[row, column]:,})" for row, column in worst if wrong[row, column]]
    return f"Taken most often: {', '.join(told)}." if told else "No row is taken for one of another class."


def values_parts(outcome: RegressionOutcome) -> list[str]:
    """Predicted against true, and residuals, of each output."""
    outputs = outcome.targets.shape[1]
    pictures = []
    for one in range(min(outputs, OUTPUTS_AT_MOST)):
        which = f" of output {one}" if outputs > 1 else ""
        predictions, targets = outcome.predictions[:, one], outcome.targets[:, one]
        residuals = figures.histogram(predictions - targets, x="predicted - true", y="rows", zero=True)
        pictures += [
            page.figure(
                f"Predicted against true{which}",
                figures.predicted_against_true(predictions, targets),
                "On the dashed line a prediction is right.",
            ),
            page.figure(f"Residuals{which}", residuals, "What is right of 0 was predicted too high."),
        ]
    return [page.section("Right and wrong", page.grid(*pictures))]


def samples(folder: Path, opening: str) -> str:
    """What a language model writes on from how a text begins, beside what stands there."""
    prompt, truth = opening[:PROMPT_CHARACTERS], opening[PROMPT_CHARACTERS:]
    if not prompt.strip():
        return ""
    generator = load_predictor(folder, "text")
    texts = [("The text itself", truth)]
    for title, temperature in (("Likeliest token each time", 0.0), ("Temperature 0.7", 0.7), ("Temperature 1", 1.0)):
        texts.append((title, generator.generate(prompt, max_tokens=SAMPLE_TOKENS, temperature=temperature)))
    blocks = [
        f"<figure><h3>{escape(title)}</h3><pre><b>{escape(prompt)}</b>{escape(text)}</pre></figure>"
        for title, text in texts
    ]
    told = page.paragraph("Each goes on from the beginning of what was measured, here in colour.", "soft")
    return f'{told}<div class="samples">{page.grid(*blocks)}</div>'


def returns_parts(outcome: EpisodeOutcome, folder: Path) -> list[str]:
    """Histograms of returns and lengths, and an episode to look at."""
    pictures = [
        page.figure("Returns", figures.histogram(outcome.returns, x="return", y="episodes")),
        page.figure("Lengths", figures.histogram(outcome.lengths, x="env steps", y="episodes")),
    ]
    try:
        film = load_predictor(folder, "player").film()
        words = f"Greedy, seed 0: return {film.total:g} in {film.length:,} env steps."
        pictures.append(page.figure("An episode", figures.animation(film.frames, film.seconds), words))
        missing = ""
    except UserError as error:
        missing = page.paragraph(f"No episode is shown: {error}", "soft")
    return [page.section("Episodes", page.grid(*pictures), missing)]


# -------------------------------------------------------------------- how it was made


def made(record: Record, measured: Measured) -> str:
    """Commands, settings, machine."""
    facts = {} if record.result is None else record.result.get("environment", {})
    return page.section(
        "How it was made",
        "<h3>Commands</h3>",
        page.code(f"python -m aibig.train --config {record.path / 'config.yaml'}\n{measured.command}"),
        "<h3>Settings</h3>",
        page.code(yaml.safe_dump(record.settings, sort_keys=False, allow_unicode=True)),
        "<h3>Environment</h3>",
        page.table(["what", "which"], [[name.replace("_", " "), str(value)] for name, value in facts.items()])
        or page.paragraph("The run wrote none down; it does so when it ends.", "soft"),
    )
