"""A model of a table takes raw rows: its columns by name, prepared as in training, from the model folder alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import aibig
from aibig.cli import main
from aibig.data.arrays import ArrayData
from aibig.data.tables.table import from_frame

SETTINGS = {"target": "kind", "missing": "impute", "categories": ["row"]}


def flowers() -> pd.DataFrame:
    """Two hundred flowers; the kind follows from colour and length, some of which are missing."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 2, 200)
    frame = pd.DataFrame(
        {
            "length": kinds + rng.normal(0, 0.3, 200),
            "colour": np.where(rng.random(200) < 0.9, np.array(["red", "white"])[kinds], "blue"),
            "wild": rng.random(200) < 0.5,
            "row": rng.integers(1, 4, 200),
            "day": pd.date_range("2024-01-01", periods=200).astype(str),
            "kind": np.array(["rose", "lily"])[kinds],
        }
    )
    frame.loc[::17, "colour"] = None
    frame.loc[::13, "length"] = np.nan
    return frame


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model folders of a classification and a regression, away from their runs."""
    folders = {}
    for task, data in {
        "classification": {"name": flowers(), **SETTINGS},
        "regression": {
            "name": flowers().fillna({"length": 0.5}),
            **SETTINGS,
            "target": ["length", "row"],
            "categories": [],
        },
    }.items():
        home = tmp_path_factory.mktemp(task)
        config = {
            "model": {"name": "net", "hidden": 8},
            "task": {"name": task},
            "data": data,
            "optimizer": {"lr": 1e-2},
            "trainer": {"max_steps": 60, "threads": 1},
        }
        run = aibig.train(config, out=home / "run")
        shutil.move(run.path / "model", home / "alone")
        shutil.rmtree(run.path)
        folders[task] = home / "alone"
    return folders


def predict_file(folder: Path, file: str) -> list[dict[str, Any]]:
    """The prediction for each row of a file."""
    return list(aibig.load_predictor(folder).predict_file(file))


def test_raw_rows_give_what_the_task_sees(folders: dict[str, Path]) -> None:
    frame = flowers()
    data = ArrayData(from_frame(frame, **SETTINGS), validation_fraction=0.0, test_fraction=0.2)  # type: ignore[arg-type]
    predictor = aibig.load_predictor(folders["classification"])
    probabilities = predictor.predict(frame)
    assert probabilities.shape == (200, 2) and np.allclose(probabilities.sum(1), 1)
    assert (probabilities.argmax(1) == (frame["kind"] == "rose")).mean() > 0.9
    assert predictor.columns.names == data.columns.names  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "dialect", [{}, {"sep": "\t"}, {"sep": ";", "decimal": ","}], ids=["comma", "tab", "semicolon"]
)
def test_columns_are_found_by_name_and_chunk_by_chunk(
    dialect: dict[str, Any], folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = flowers()
    frame.assign(more="x")[[*frame.columns[::-1], "more"]].drop(columns="kind").to_csv("x.csv", index=False, **dialect)
    expected = aibig.load_predictor(folders["classification"]).predict(frame)
    monkeypatch.setattr("aibig.inference.rows.CHUNK_ROWS", 7)
    rows = predict_file(folders["classification"], "x.csv")
    assert [row["rose"] for row in rows] == pytest.approx(expected[:, 1].tolist(), abs=1e-6)
    assert [row["label"] for row in rows] == [["lily", "rose"][number] for number in expected.argmax(1)]


def test_values_are_in_the_targets_units(folders: dict[str, Path]) -> None:
    flowers().fillna({"length": 0.5}).to_csv("x.csv", index=False)
    rows = predict_file(folders["regression"], "x.csv")
    assert [*rows[0]] == ["value_0", "value_1"] and 1 < np.mean([row["value_1"] for row in rows]) < 3


def test_columns_may_be_numbered(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(100, 3))
    frame = pd.DataFrame(features).assign(**{"3": features[:, 0] > 0})
    config = {"model": {"name": "net"}, "task": {"name": "classification"}, "trainer": {"max_steps": 5, "threads": 1}}
    table = aibig.train({**config, "data": {"name": frame, "target": "3"}}, out=tmp_path / "table")
    pair = aibig.train({**config, "data": {"name": (features, features[:, 0] > 0)}}, out=tmp_path / "pair")
    for run in (table, pair):
        assert aibig.load_predictor(run.path).predict(frame[[0, 1, 2]]).shape == (100, 2)


def test_a_category_that_training_did_not_have_is_counted_and_reported(
    folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    flowers()[:5].assign(colour="green").to_csv("x.csv", index=False)
    assert main(["predict", str(folders["classification"]), "x.csv", "--json"]) == 0
    output = capsys.readouterr()
    assert len(json.loads(output.out)) == 5
    assert output.err.strip() == "cells with a category that training did not have, which count as none: 5 of 'colour'"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda frame: frame.drop(columns="colour"),
            "x.csv:1: has no column 'colour'; name the columns as in training",
        ),
        (lambda frame: frame.assign(day="31.12.2024"), "x.csv:2: column 'day' is '31.12.2024', which is not a date"),
        (lambda frame: frame.assign(length=["1"] * 4 + ["long"]), "x.csv:6: column 'length' is 'long', which is not"),
        (lambda frame: frame.assign(length=float("inf")), "x.csv:2: column 'length' is inf"),
        (lambda frame: frame[:0], "x.csv: has a header and no rows"),
        (lambda frame: frame[["length", "length"]].set_axis(["length", "length"], axis=1), "x.csv:1: has no column"),
        (lambda frame: frame.assign(more=1).rename(columns={"more": "day"}), "x.csv:1: has two columns named 'day'"),
    ],
)
def test_a_table_that_does_not_fit_is_named(
    change: Any,
    complaint: str,
    folders: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aibig.inference.rows.CHUNK_ROWS", 3)
    change(flowers()[:5]).to_csv("x.csv", index=False)
    assert main(["predict", str(folders["classification"]), "x.csv"]) == 2
    output = capsys.readouterr()
    assert complaint in output.err and output.err.count("\n") == 1
    assert not output.out or "x.csv:6" in complaint  # the chunks before it are out already


def test_a_labelled_table_gives_predictions_and_targets(folders: dict[str, Path]) -> None:
    frame = flowers()
    frame.to_csv("x.csv", index=False)
    predictions, targets = aibig.load_predictor(folders["classification"]).predictions_and_targets("x.csv")
    assert predictions.shape == (200, 2) and targets.tolist() == (frame["kind"] == "rose").astype(int).tolist()
    full = frame.fillna({"length": 0.5})
    full.to_csv("y.csv", index=False)
    predictions, targets = aibig.load_predictor(folders["regression"]).predictions_and_targets("y.csv")
    assert predictions.shape == targets.shape == (200, 2)
    assert np.allclose(targets, full[["length", "row"]])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda frame: frame.drop(columns="kind"), "x.csv:1: has no column 'kind'"),
        (
            lambda frame: frame.assign(kind=["rose"] * 4 + ["tulip"]),
            "x.csv:6: the target 'kind' is 'tulip', which is none",
        ),
        (lambda frame: frame.assign(kind=["rose"] * 4 + [None]), "x.csv:6: the target 'kind' is missing"),
    ],
)
def test_targets_that_do_not_fit_are_named(change: Any, complaint: str, folders: dict[str, Path]) -> None:
    change(flowers()[:5]).to_csv("x.csv", index=False)
    with pytest.raises(aibig.UserError, match=complaint):
        aibig.load_predictor(folders["classification"]).predictions_and_targets("x.csv")


def test_a_model_of_arrays_is_measured_on_a_table_with_a_target(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(100, 3))
    config = {"model": {"name": "net"}, "task": {"name": "classification"}, "trainer": {"max_steps": 5, "threads": 1}}
    run = aibig.train({**config, "data": {"name": (features, features[:, 0] > 0)}}, out=tmp_path / "run")
    pd.DataFrame(features, columns=[*"abc"]).assign(target=features[:, 0] > 0).to_csv("x.csv", index=False)
    predictor = aibig.load_predictor(run.path)
    predictions, targets = predictor.predictions_and_targets("x.csv")
    assert np.allclose(predictions, predictor.predict(features), atol=1e-6)
    assert targets.tolist() == (features[:, 0] > 0).tolist()
