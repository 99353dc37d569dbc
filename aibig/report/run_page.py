"""The page of a run: metrics, curves, mistakes, and how it was made. Knows no task by name."""

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
from aibig.metrics.names import MEANINGS
from aibig.metrics.outcomes import ClassificationOutcome, EpisodeOutcome, Outcome, RegressionOutcome, TokenOutcome
from aibig.report import figures, page
from aibig.report.figures import Line
from aibig.report.record import RunRecord

MAX_OUTPUTS = 3  # of a regression, each with figures of its own
MAX_CONFUSIONS = 5  # in words
MAX_ROWS = 15  # of a table that is shown without a click
PROMPT_CHARACTERS, SAMPLE_TOKENS = 80, 300


@dataclass
class EvaluationRecord:
    """What an evaluation gave, to be shown.

    Args:
        measured_on: what it was measured on, in words.
        command: what measures it again.
        metrics: by name.
        intervals: 95 % intervals of the metrics, by name; empty for none.
        outcome: what figures are drawn from; None for none.
    """

    measured_on: str
    command: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    outcome: Outcome | None = None


def write_run_page(file: Path, folder: Path, record: RunRecord | None, evaluation: EvaluationRecord) -> Path:
    """Write the page of a run, or of a model without its run.

    Args:
        file: where the page goes.
        folder: of the run, or of the model.
        record: of the run; None for a model without its run.
        evaluation: of the model; without metrics if there is no model yet.

    Returns:
        The file.

    Raises:
        UserError: the file can't be written.
    """
    name = folder.resolve().name if record is None else record.name
    return page.write_page(
        file,
        name,
        "a model without its run" if record is None else summary(record),
        [
            "" if record is None or record.result is not None else unfinished(record, bool(evaluation.metrics)),
            page.section(f"Measured on {evaluation.measured_on}", metrics_table(evaluation)),
            "" if record is None else page.section("Learning", learning_curves(record)),
            *outcome_sections(evaluation.outcome, folder),
            "" if record is None else reproduction_section(record, evaluation),
        ],
    )


def summary(record: RunRecord) -> str:
    """A run in a line.

    Args:
        record: of the run.
    """
    settings, result = record.settings, record.result
    names = [str(settings[section]["name"]) for section in ("model", "env", "data") if section in settings]
    facts = [f"{settings['task']['name']}: {names[0]} on {names[1]}"]
    if result is not None:
        throughput = result["throughput"]
        facts.append(f"{result['parameters']:,} parameters")
        facts.append(f"{result['steps']:,} steps in {result['train_seconds']:.1f} s of training")
        facts.append(f"{throughput['value']:,.0f} {throughput['unit']} on {result['device']}, {result['precision']}")
    return " · ".join(facts)


def unfinished(record: RunRecord, has_metrics: bool) -> str:
    """That a run has not ended, and how far it came.

    Args:
        record: of the run.
        has_metrics: whether an earlier model of it was evaluated.
    """
    steps = [line.get("step", 0) for line in record.lines]
    where = f"It came to step {max(steps):,} so far." if steps else "Nothing has been logged yet."
    model = (
        "what is measured here is the model that it left before" if has_metrics else "there is no model to measure yet"
    )
    command = f"python -m aibig.train --resume --out {record.path}"
    return page.paragraph(
        f"This run is in progress or was interrupted; {model}. {where} If it does not run any more, it goes on with: "
        f"{command}",
        "warning",
    )


def metrics_table(evaluation: EvaluationRecord) -> str:
    """Metric, value, interval, meaning.

    Args:
        evaluation: whose metrics they are.
    """
    intervals = evaluation.intervals
    rows = [
        [name, value if math.isfinite(value) else "not finite"]
        + ([interval(intervals[name]) if name in intervals else None] if intervals else [])
        + [MEANINGS.get(name)]
        for name, value in evaluation.metrics.items()
    ]
    return page.table(["metric", "value", *(["95 % interval"] if intervals else []), "meaning"], rows)


def interval(ends: tuple[float, float]) -> str:
    """An interval in words.

    Args:
        ends: its lower and its upper end.
    """
    return " to ".join(map(page.format_value, ends))


# -------------------------------------------------------------------- learning curves


def learning_curves(record: RunRecord) -> str:
    """Figures of the log: first what everybody looks at, then whatever else was logged.

    Args:
        record: of the run.
    """
    primary_metric, logged, rates = record.primary_metric, record.logged("train"), record.rates
    selecting = [primary_metric] if primary_metric != "loss" else []  # the loss has its figure
    parts = [
        loss_figure(record),
        *(log_figure(record, name, f"What selects the best model: {page.readable(name)}") for name in selecting),
        log_figure(record, "lr", "Learning rate"),
        log_figure(record, "gradient_norm", "Gradient norm", "Before clipping.", log=True),
        *(log_figure(record, name, "Throughput", unit=page.readable(name)) for name in rates),
    ]
    counts = {name.removesuffix("_per_second") for name in rates}
    treated = {"step", "epoch", "seconds", "loss", primary_metric, "lr", "gradient_norm", *rates, *counts}
    others = [name for name in logged if name not in treated and any(record.curve("train", name)[1])]
    return page.grid(*parts, *(log_figure(record, name, page.readable(name)) for name in others))


def loss_figure(record: RunRecord) -> str:
    """Training and validation loss.

    Args:
        record: of the run.
    """
    return curves_figure(
        "Loss",
        [
            Line("training", *record.curve("train", "loss")),
            Line("validation", *record.curve("validation", "loss")),
            Line("validation (log loss)", *record.curve("validation", "log_loss")),
        ],
        "loss",
    )


def log_figure(
    record: RunRecord, name: str, title: str, caption: str = "", *, unit: str | None = None, log: bool = False
) -> str:
    """One logged number in training and validation.

    Args:
        record: of the run.
        name: of the number in the log.
        title: of the figure.
        caption: of the figure.
        unit: label of the vertical axis; by default the name in words.
        log: whether the vertical axis is logarithmic.
    """
    lines = [Line("training", *record.curve("train", name)), Line("validation", *record.curve("validation", name))]
    return curves_figure(title, lines, unit or page.readable(name), caption, log=log)


def curves_figure(title: str, lines: Sequence[Line], y: str, caption: str = "", *, log: bool = False) -> str:
    """A figure of the lines that have points; nothing if none has.

    Args:
        title: of the figure.
        lines: curves over steps.
        y: label of the vertical axis.
        caption: of the figure.
        log: whether the vertical axis is logarithmic.
    """
    lines = [line for line in lines if len(line.x)]
    return page.figure(title, figures.curves(lines, x="step", y=y, log=log), caption) if lines else ""


# -------------------------------------------------------------------- outcomes


def outcome_sections(outcome: Outcome | None, folder: Path) -> list[str]:
    """Tables and figures of an outcome, by its kind; none of a model whose outputs are not finite.

    Args:
        outcome: of an evaluation; None for none.
        folder: of the run, or of the model.
    """
    if outcome is None or not all(math.isfinite(value) for value in outcome.metrics().values()):
        return []
    if isinstance(outcome, ClassificationOutcome):
        return classification_sections(outcome)
    if isinstance(outcome, RegressionOutcome):
        return regression_sections(outcome)
    if isinstance(outcome, TokenOutcome):  # an encoder's has no opening, since it generates nothing
        return [page.section("Text that it writes", generated_texts(folder, outcome.opening))]
    return episode_sections(outcome, folder) if isinstance(outcome, EpisodeOutcome) else []


def classification_sections(outcome: ClassificationOutcome) -> list[str]:
    """Confusion matrix, ROC, precision-recall, calibration; then class by class.

    Args:
        outcome: of an evaluation.
    """
    from sklearn.metrics import confusion_matrix

    probabilities, targets, names = outcome.probabilities, outcome.targets, outcome.class_names
    counts = confusion_matrix(targets, probabilities.argmax(1), labels=np.arange(len(names)))
    matrix = figures.confusion_matrix(counts, names)
    parts = [page.figure("Confusion matrix", matrix, confusions(counts, names), wide=len(names) > 20)]
    if "roc_auc" in outcome.metrics():
        caption = "The area stands beside each class, the worst first"
        caption += f"; of {len(names)} classes {figures.MAX_CURVES} are shown." if len(names) > 10 else "."
        roc = figures.roc_curves(probabilities, targets, names)
        precision_recall = figures.precision_recall_curves(probabilities, targets, names)
        parts.append(page.figure("ROC, one class against the rest", roc, caption))
        parts.append(page.figure("Precision and recall", precision_recall, caption))
    calibration = figures.calibration_diagram(probabilities, targets)
    parts.append(page.figure("Calibration", calibration, "On the dashed line, confidence is how often it is right."))
    rows = [list(row.values()) for row in outcome.per_class()]
    table = page.table(["class", "precision", "recall", "F1", "rows"], rows)
    if len(rows) > MAX_ROWS:
        table = page.details(f"All {len(rows)} classes", table)
    return [page.section("Right and wrong", page.grid(*parts)), page.section("Class by class", table)]


def confusions(counts: Any, names: Sequence[str]) -> str:
    """The most frequent mistakes in words.

    Args:
        counts: rows of each true class by predicted class, (C, C).
        names: of the classes.
    """
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    rows, columns = np.unravel_index(np.argsort(wrong, axis=None)[::-1][:MAX_CONFUSIONS], wrong.shape)
    cells = [(row, column) for row, column in zip(rows, columns, strict=True) if wrong[row, column]]
    words = [f"{names[row]} for {names[column]} ({wrong[row, column]:,})" for row, column in cells]
    return f"Taken most often: {', '.join(words)}." if words else "No row is taken for one of another class."


def regression_sections(outcome: RegressionOutcome) -> list[str]:
    """Predicted against true, and residuals, of each output.

    Args:
        outcome: of an evaluation.
    """
    outputs = outcome.targets.shape[1]
    parts = []
    for index in range(min(outputs, MAX_OUTPUTS)):
        suffix = f" of output {index}" if outputs > 1 else ""
        predictions, targets = outcome.predictions[:, index], outcome.targets[:, index]
        scatter = figures.predicted_against_true(predictions, targets)
        residuals = figures.histogram(predictions - targets, x="predicted - true", y="rows", zero=True)
        parts += [
            page.figure(f"Predicted against true{suffix}", scatter, "On the dashed line a prediction is right."),
            page.figure(f"Residuals{suffix}", residuals, "What is right of 0 was predicted too high."),
        ]
    return [page.section("Right and wrong", page.grid(*parts))]


def generated_texts(folder: Path, opening: str) -> str:
    """Texts that a language model generates from a prompt, beside how the text really continues.

    Args:
        folder: of the run, or of the model.
        opening: of the text that was measured, whose first characters are the prompt.
    """
    prompt, truth = opening[:PROMPT_CHARACTERS], opening[PROMPT_CHARACTERS:]
    if not prompt.strip():
        return ""
    generator = load_predictor(folder, "text_generator")
    texts = [("The text itself", truth)]
    for title, temperature in (("Likeliest token each time", 0.0), ("Temperature 0.7", 0.7), ("Temperature 1", 1.0)):
        texts.append((title, generator.generate(prompt, max_tokens=SAMPLE_TOKENS, temperature=temperature)))
    blocks = [
        f"<figure><h3>{escape(title)}</h3><pre><b>{escape(prompt)}</b>{escape(text)}</pre></figure>"
        for title, text in texts
    ]
    note = page.paragraph("Each goes on from the beginning of what was measured, here in colour.", "soft")
    return f'{note}<div class="samples">{page.grid(*blocks)}</div>'


def episode_sections(outcome: EpisodeOutcome, folder: Path) -> list[str]:
    """Histograms of returns and lengths, and an episode to look at.

    Args:
        outcome: of an evaluation.
        folder: of the run, or of the model.
    """
    parts = [
        page.figure("Returns", figures.histogram(outcome.returns, x="return", y="episodes")),
        page.figure("Lengths", figures.histogram(outcome.lengths, x="env steps", y="episodes")),
    ]
    try:
        recording = load_predictor(folder, "agent").record_episode()
        caption = f"Greedy, seed 0: return {recording.episode_return:g} in {recording.length:,} env steps."
        parts.append(page.figure("An episode", figures.gif_uri(recording.frames, recording.seconds), caption))
        missing = ""
    except UserError as error:
        missing = page.paragraph(f"No episode is shown: {error}", "soft")
    return [page.section("Episodes", page.grid(*parts), missing)]


# -------------------------------------------------------------------- how it was made


def reproduction_section(record: RunRecord, evaluation: EvaluationRecord) -> str:
    """Commands, settings, machine.

    Args:
        record: of the run.
        evaluation: of its model.
    """
    facts = {} if record.result is None else record.result.get("environment", {})
    return page.section(
        "How it was made",
        "<h3>Commands</h3>",
        page.code(f"python -m aibig.train --config {record.path / 'config.yaml'}\n{evaluation.command}"),
        "<h3>Settings</h3>",
        page.code(yaml.safe_dump(record.settings, sort_keys=False, allow_unicode=True)),
        "<h3>Environment</h3>",
        page.table(["what", "which"], [[name.replace("_", " "), str(value)] for name, value in facts.items()])
        or page.paragraph("The run wrote none down; it does so when it ends.", "soft"),
    )
