"""Pages of runs: whole, self-contained, true to the run, whatever state it is in."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from families import DQN, FAMILIES, NETS, TRANSFORMER
from PIL import Image

import aibig
from aibig.inference.predictor import load_predictor
from aibig.inference.text_generator import TextGenerator
from aibig.metrics.outcomes import ClassificationOutcome, Outcome, RegressionOutcome
from aibig.report import figures, page
from aibig.report.record import read_run_record
from aibig.report.run_page import EvaluationRecord, write_run_page
from aibig.runs.train import build

MAX_BYTES = 2_000_000
VOID_TAGS = {"meta", "link", "img"}
FIGURES = {  # what must be on the page of each family
    "nets": ["Confusion matrix", "ROC, one class against the rest", "Precision and recall", "Calibration"],
    "regression": ["Predicted against true", "Residuals"],
    "lstm": ["The text itself", "Temperature 1"],
    "transformer": ["The text itself", "Temperature 1"],
    "masked": [],
    "dqn": ["Returns", "Lengths"],
    "texts": ["Confusion matrix", "Precision and recall", "Calibration"],
}


class Page(HTMLParser):
    """A page taken apart: its text, headings and attributes; it complains of what is not well formed."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.source = file.read_text("utf-8")
        self.open: list[str] = []
        self.text, self.titles, self.ids = "", list[str](), Counter[str]()
        self.attributes: list[tuple[str, dict[str, str]]] = []
        self.feed(self.source)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it."""
        if tag not in VOID_TAGS:
            self.open.append(tag)
        self.attributes.append((tag, {name: value or "" for name, value in attrs}))
        self.ids.update(value or "" for name, value in attrs if name == "id")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it; it is closed at once."""
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        """It must be the one that was opened last."""
        if tag not in VOID_TAGS:
            assert self.open and self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        """Keep text."""
        self.text += data
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.titles.append(data)


def read(file: Path) -> Page:
    """A page that keeps what every page promises."""
    assert file.stat().st_size <= MAX_BYTES
    parsed = Page(file)
    assert not [name for name, count in parsed.ids.items() if count > 1], "an id stands twice"
    for tag, attributes in parsed.attributes:
        assert tag not in ("script", "iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href", "action", "poster", "srcset", "data"):
            if name in attributes:
                assert re.match(r"#|data:", attributes[name]), f"{tag} {name} asks for {attributes[name][:60]}"
        if "role" in attributes:
            assert attributes["role"] == "img" and attributes["aria-label"]
        if tag == "img":
            assert attributes["alt"]
    assert "@import" not in parsed.source
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?(.)", parsed.source))
    assert figures.INK not in parsed.source, "ink that does not follow the page's colours"
    return parsed


@pytest.mark.parametrize("family", FAMILIES)
def test_the_page_of_every_family(family: str, tiny_text: Path) -> None:
    text = {"data.name": "text", "data.path": tiny_text} if family in ("lstm", "transformer") else {}
    run = aibig.train(FAMILIES[family], {"trainer.max_steps": 30, **text}, out="run<1>")
    assert run.result is not None
    evaluation = aibig.evaluate(run.path, bootstrap=family != "nets")
    assert evaluation == pytest.approx(run.result["metrics"])
    assert evaluation.report == run.path / "report.html"
    parsed = read(evaluation.report)
    assert parsed.titles[0] == "run<1>"
    assert {"Loss", "Learning rate", "Gradient norm", "Throughput", *FIGURES[family]} <= {*parsed.titles}
    assert all(name in parsed.text for name in evaluation)
    assert ("95 % interval" in parsed.text) == bool(evaluation.intervals) == (family != "nets")
    assert f"name: {FAMILIES[family]['model']['name']}" in parsed.text
    assert torch.__version__.partition("+")[0] in parsed.text, "the environment"
    assert "python -m aibig.train --config" in parsed.text and "aibig evaluate" in parsed.text


def test_a_run_that_has_not_ended_has_curves_and_no_metrics() -> None:
    run = aibig.train(NETS, {"trainer.max_steps": 30}, out="run")
    shutil.rmtree(run.path / "model")
    (run.path / "result.json").unlink()
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "step": 99999, "lo')  # killed while it wrote
    evaluation = aibig.evaluate(run.path)
    assert evaluation == {} and evaluation.report is not None and "has not ended" in evaluation.note
    parsed = read(evaluation.report)
    assert "in progress or was interrupted" in parsed.text and "step 30 so far" in parsed.text
    assert "Loss" in parsed.titles and "Confusion matrix" not in parsed.titles
    (run.path / "metrics.jsonl").unlink()
    assert aibig.evaluate(run.path).report == evaluation.report
    assert "Nothing has been logged yet" in read(evaluation.report).text
    with pytest.raises(aibig.UserError, match="has not ended"):
        aibig.evaluate(run.path, report=False)


@pytest.mark.parametrize("family", ["lstm", "transformer"])
def test_another_text_is_read_as_the_test_split_was(family: str, tiny_text: Path) -> None:
    text = {"data.name": "text", "data.path": tiny_text}
    run = aibig.train(FAMILIES[family], {"trainer.max_steps": 5, **text}, out="run")
    assert run.result is not None
    generator: TextGenerator = load_predictor(run.path)
    _, task = build(aibig.load_config(run.path / "config.yaml"))
    Path("other.txt").write_text(generator.tokenizer.decode(task.data.splits["test"].tolist()), encoding="utf-8")
    evaluation = aibig.evaluate(run.path, "other.txt")
    assert evaluation == pytest.approx(run.result["metrics"])
    assert evaluation.report == run.path / "report-other.html"
    assert "Measured on other.txt" in read(evaluation.report).titles[1]

    shutil.copytree(run.path / "model", "alone")
    alone = aibig.evaluate("alone", "other.txt", report="page.html")
    assert alone == evaluation and "a model without its run" in read(Path("page.html")).text
    with pytest.raises(aibig.UserError, match="alone: is a model without its run; name the data"):
        aibig.evaluate("alone")
    Path("short.txt").write_text("a")
    Path("strange.txt").write_text("żółw żółw")
    for file, words in (("short.txt", "too little text"), ("strange.txt", "the character 'ż'")):
        with pytest.raises(aibig.UserError, match=f"{file}: .*{words}"):
            aibig.evaluate("alone", file)


def test_what_cannot_be_measured_on_a_file_is_said() -> None:
    run = aibig.train(DQN, {"trainer.max_steps": 5}, out="run")
    Path("x.csv").write_text("1,2\n")
    with pytest.raises(aibig.UserError, match=r"x.csv: the model in run can't be evaluated on a file"):
        aibig.evaluate(run.path, "x.csv")


def test_a_split_that_does_not_exist_is_refused() -> None:
    with pytest.raises(aibig.UserError, match="split must be 'test' or 'validation', not 'tset'"):
        aibig.evaluate("run", split="tset")


def test_a_diverged_model_has_a_page_without_figures_of_it() -> None:
    run = aibig.train(NETS, {"trainer.max_steps": 5}, out="run")
    model = aibig.load_model(run.path)
    state = {name: torch.full_like(value, torch.nan) for name, value in model.state_dict().items()}
    facts = json.loads((run.path / "model" / "model.json").read_text())
    aibig.save_model(model, run.path / "model", facts, state)
    evaluation = aibig.evaluate(run.path)
    assert evaluation.report is not None
    parsed = read(evaluation.report)
    assert "not finite" in parsed.text and "Confusion matrix" not in parsed.titles


class Coloured(gymnasium.Env[Any, Any]):
    """An environment of 100 steps that shows how far it is, if it shows anything."""

    observation_space = gymnasium.spaces.Box(0, 1, (4,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, *, render_mode: str | None = None, blind: bool = False) -> None:
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
        self.render_mode, self.blind, self.steps = render_mode, blind, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """From the beginning."""
        self.steps = 0
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step on."""
        self.steps += 1
        return np.zeros(4, np.float32), 1.0, self.steps == 100, False, {}

    def render(self) -> Any:
        """Noise, which compresses badly, and the number of the step in the first pixel."""
        image = np.random.default_rng(self.steps).integers(0, 256, (60, 100, 3), dtype=np.uint8)
        image[0, 0] = self.steps
        return None if self.blind else image


def test_an_episode_is_shown_and_its_size_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        aibig.config.registry.environments, "_entries", dict(aibig.config.registry.environments.entries())
    )
    aibig.register_environment("Coloured")(Coloured)
    config = {**DQN, "env": {"name": "Coloured"}, "task": {"name": "q_learning", "validation_episodes": 1}}
    config["task"] |= {"test_episodes": 2, "learning_starts": 20}
    run = aibig.train(config, {"trainer.max_steps": 3}, out="run")
    monkeypatch.setattr("aibig.inference.agent.MAX_FRAMES", 40)
    monkeypatch.setattr(figures, "MAX_GIF_BYTES", 50_000)
    recording = load_predictor(run.path).record_episode()
    numbers = [int(frame[0, 0, 0]) for frame in recording.frames]
    assert (recording.length, recording.episode_return, recording.seconds) == (100, 100.0, 10.0)
    assert 20 < len(numbers) <= 41 and (numbers[0], numbers[-1]) == (0, 100)
    assert {*np.diff(numbers[:-1])} == {4}, "frames are not evenly spread"

    uri = figures.gif_uri(recording.frames, recording.seconds)
    data = base64.b64decode(uri.removeprefix("data:image/gif;base64,"))
    assert len(data) <= figures.MAX_GIF_BYTES
    with Image.open(io.BytesIO(data)) as gif:
        assert gif.n_frames >= 10
        assert gif.n_frames * gif.info["duration"] == pytest.approx(10_000, rel=0.1)
    report = aibig.evaluate(run.path).report
    assert report is not None and "An episode" in read(report).titles

    facts = json.loads((run.path / "model" / "model.json").read_text())
    facts["env"]["settings"]["blind"] = True
    (run.path / "model" / "model.json").write_text(json.dumps(facts))
    report = aibig.evaluate(run.path).report
    assert report is not None
    parsed = read(report)
    assert "An episode" not in parsed.titles and "No episode is shown: the environment renders no images" in parsed.text


def test_runs_side_by_side() -> None:
    first = aibig.train(NETS, {"trainer.max_steps": 20}, out="a/run")
    second = aibig.train(NETS, {"trainer.max_steps": 30, "model.hidden": 8}, out="b/run")
    third = aibig.train(TRANSFORMER, {"trainer.max_steps": 20}, out="text")
    (third.path / "result.json").unlink()
    comparison = aibig.compare(first.path, second.path, third.path)
    assert first.result is not None and second.result is not None
    assert [run["name"] for run in comparison.runs] == ["a/run", "b/run", "test_runs_side_by_side0/text"]
    assert [run["finished"] for run in comparison.runs] == [True, True, False]
    tables = {title: {row[0]: row[1:] for row in rows} for title, rows in comparison.tables().items()}
    assert tables["setting"]["model.hidden"] == [16, 8, None]
    assert "seed" not in tables["setting"] and "trainer.log_every" not in tables["setting"]
    assert tables["test metric"]["accuracy"] == [
        *(run.result["metrics"]["accuracy"] for run in (first, second)),
        None,
    ]
    assert tables["best validation"]["loss"][:2] == [None, None]
    best = min(line["loss"] for line in read_run_record(third.path).lines if line["kind"] == "validation")
    assert tables["best validation"]["loss"][2] == best
    assert tables["run"]["steps"] == [20, 30, 20]
    assert comparison.report == Path("compare.html")
    parsed = read(comparison.report)
    assert {"Settings that differ", "Curves", "Training: loss", "Validation: accuracy"} <= {*parsed.titles}


def test_a_curve_of_many_points_keeps_some_of_them_and_its_ends() -> None:
    index = figures.evenly_spaced(100_000)
    assert len(index) == figures.MAX_POINTS and (index[0], index[-1]) == (0, 99_999)
    assert figures.evenly_spaced(3).tolist() == [0, 1, 2] and figures.evenly_spaced(1).tolist() == [0]
    steps = range(100_000)
    assert len(figures.curves([figures.Line("loss", steps, np.sin(steps).tolist())], x="step", y="loss")) < 60_000


def read_page_of(outcome: Outcome) -> Page:
    evaluation = EvaluationRecord("x", "x", outcome.metrics(), {}, outcome)
    return read(write_run_page(Path("page.html"), Path("x"), None, evaluation))


@pytest.mark.parametrize(("classes", "rows"), [(2, 8), (3, 500), (12, 500), (100, 2_000)])
@pytest.mark.filterwarnings("error")
def test_any_number_of_classes_and_any_name(classes: int, rows: int) -> None:
    generator = np.random.default_rng(0)
    names = ["<script>alert(1)</script>", "$x_1$", *(f"東京 {number}" for number in range(classes))][:classes]
    outcome = ClassificationOutcome(
        generator.dirichlet(np.ones(classes), rows), generator.integers(classes, size=rows), names
    )
    parsed = read_page_of(outcome)
    assert "$x_1$" in figures.confusion_matrix(np.eye(2, dtype=int), ["$x_1$", "b"]), "taken for a formula"
    assert "<script>alert(1)</script>" in parsed.text
    assert ("All 100 classes" in parsed.text) == (classes == 100)


@pytest.mark.parametrize("targets", [np.ones((9, 1)), np.arange(9_000.0)[:, None], np.zeros((20, 5))])
@pytest.mark.filterwarnings("error")
def test_any_values(targets: np.ndarray[Any, Any]) -> None:
    outcome = RegressionOutcome(targets[::-1].copy(), targets)
    parsed = read_page_of(outcome)
    assert sum(title.startswith("Residuals") for title in parsed.titles) == min(3, targets.shape[1])


def test_one_class_alone_has_no_ranking() -> None:
    outcome = ClassificationOutcome(np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([0, 0]), ["a", "b"])
    parsed = read_page_of(outcome)
    assert "Confusion matrix" in parsed.titles and "ROC, one class against the rest" not in parsed.titles


def test_numbers_as_a_reader_wants_them() -> None:
    texts = [page.format_value(value) for value in (0.97771, 491.72, 12345.6, 1e-5, 0.0, 17_875, None, True, "x")]
    assert texts == ["0.9777", "491.72", "12,346", "1e-05", "0.0000", "17,875", "", "true", "x"]


def test_measuring_without_a_page_imports_no_matplotlib_and_a_page_no_pyplot() -> None:
    aibig.train(NETS, {"trainer.max_steps": 5}, out="run")
    code = (
        "import sys, aibig\n"
        "aibig.evaluate('run', report=False); print('matplotlib' in sys.modules)\n"
        "aibig.evaluate('run'); print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\nTrue False\n"
