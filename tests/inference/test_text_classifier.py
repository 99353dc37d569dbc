"""A text classifier's folder predicts of sentences and files what the task measured."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from families import REVIEWS, TEXTS

import aibig
from aibig import cli
from aibig.data.text.text_labels import read_table
from aibig.errors import UserError
from aibig.inference.predictor import load_predictor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of a trained classifier, away from its run; `test.json` beside it has the test metrics."""
    home = tmp_path_factory.mktemp("texts")
    run = aibig.train(TEXTS, {"data.test_path": str(REVIEWS), "trainer.max_steps": 120}, out=home / "run")
    assert run.result is not None
    (home / "test.json").write_text(json.dumps(run.result["metrics"]))
    shutil.move(run.path / "model", home / "alone")
    shutil.rmtree(run.path)
    return home / "alone"


def test_what_is_measured_on_a_table_is_what_training_measured(folder: Path) -> None:
    predictor = load_predictor(folder)
    probabilities, targets = predictor.predictions_and_targets(REVIEWS)
    assert probabilities.shape == (300, 2) and np.allclose(probabilities.sum(1), 1, atol=1e-6)
    expected = json.loads((folder.parent / "test.json").read_text())
    assert predictor.outcome(REVIEWS).metrics() == pytest.approx(expected, abs=1e-5)
    assert (probabilities.argmax(1) == targets).mean() == pytest.approx(expected["accuracy"]) and expected[
        "accuracy"
    ] > 0.8


def test_every_kind_of_file_is_read_in_its_order(folder: Path, tmp_path: Path) -> None:
    predictor = load_predictor(folder)
    texts = read_table(REVIEWS, 1, 2).texts
    expected = predictor.predict(texts)
    alone = np.concatenate([predictor.predict([text]) for text in texts[:9]])
    np.testing.assert_allclose(expected[:9], alone, atol=1e-6)
    (tmp_path / "x.txt").write_text("\n".join(texts) + "\n\n")
    (tmp_path / "plain.tsv").write_text("".join(f"{text}\n" for text in texts))
    for file in (REVIEWS, tmp_path / "x.txt", tmp_path / "plain.tsv"):
        rows = list(predictor.predict_file(file))
        assert [row["label"] for row in rows] == [predictor.class_names[index] for index in expected.argmax(1)]
        np.testing.assert_allclose([row["positive"] for row in rows], expected[:, 1], atol=1e-6)


def test_sentences_from_python_give_what_those_of_a_file_give(folder: Path) -> None:
    texts = list(read_table(REVIEWS, 1, 2).texts)
    rows, expected = list(aibig.predict(folder, texts)), list(aibig.predict(folder, REVIEWS))
    assert len(rows) == 300 and rows == expected


def test_a_small_table_loses_no_row_to_a_header(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("a great film\tpositive\na dull film\tnegative\n")
    assert len(load_predictor(folder).predictions_and_targets(tmp_path / "x.tsv")[1]) == 2


def test_the_command_takes_a_sentence_or_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", str(folder), "the plot is a very good one, good"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert rows[0].keys() == {"label", "negative", "positive"} and rows[0]["label"] == "positive"
    assert cli.main(["predict", str(folder), str(REVIEWS), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 300


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("fine\tpositive\nodd\tneutral\n", r"x.tsv:2: the label is 'neutral', which is none of the classes"),
        ("fine\tpositive\nodd\n", "x.tsv:2: has no label"),
        ("", "x.tsv: is empty"),
    ],
)
def test_a_table_that_does_not_fit_is_named(content: str, complaint: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text(content)
    with pytest.raises(UserError, match=complaint):
        load_predictor(folder).predictions_and_targets(tmp_path / "x.tsv")


@pytest.mark.parametrize(("source", "complaint"), [("gone.tsv", "gone.tsv: no such file"), (" ", "is empty")])
def test_a_missing_file_or_an_empty_sentence_is_named(source: str, complaint: str, folder: Path) -> None:
    with pytest.raises(UserError, match=complaint):
        list(load_predictor(folder).predict_file(source))
