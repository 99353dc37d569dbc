"""Tables: what columns hold is inferred, fitted to the training split alone, and reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aibig.data.arrays import ArrayData
from aibig.data.tables.columns import Columns
from aibig.data.tables.table import from_frame, read_csv
from aibig.errors import UserError


def people(count: int = 60) -> pd.DataFrame:
    """Numbers, categories, dates, an index, a constant; classes by `who`, values by `age`."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": range(1, count + 1),
            "age": rng.integers(1, 80, count).astype(float),
            "port": rng.choice(["Cherbourg", "Queenstown", "Southampton"], count),
            "adult": rng.random(count) < 0.5,
            "day": pd.date_range("2020-01-01", periods=count)[::-1].strftime("%Y-%m-%d"),
            "ship": "Titanic",
            "who": rng.choice(["dead", "alive"], count),
        }
    )


def table_data(frame: pd.DataFrame, split: dict[str, Any] | None = None, **settings: Any) -> ArrayData:
    """The frame as data."""
    return ArrayData(from_frame(frame, **{"target": "who", **settings}), **(split or {}))


def test_the_kinds_of_columns_are_inferred_and_reported() -> None:
    data = table_data(people())
    assert data.notes == [
        "rows: 39 train, 9 validation, 12 test",
        "numbers (1): age",
        "dates, as days (1): day",
        "categories (2): port (Cherbourg, Queenstown, Southampton), adult (False, True)",
        "left out: id (counts the rows; data.features keeps it), ship (is constant)",
    ]
    assert data.class_names == ["alive", "dead"]
    assert data.sample_shape == [7] and data.model_settings()["in_features"] == 7
    assert table_data(people(), features=["id", "age"]).columns.names == ["id", "age"]  # type: ignore[union-attr]


def test_encoding_is_fitted_on_the_training_split_alone() -> None:
    frame = people()
    frame.loc[frame.index[-20:], "age"] += 1000.0
    frame.loc[frame.index[-20:], "port"] = "New York"
    frame.loc[frame.index[:3], "age"] = np.nan
    frame["time"] = np.arange(60) / 2
    data = table_data(
        frame, {"scaling": "standard", "test_fraction": 0.34, "validation_fraction": 0.0}, time="time", missing="impute"
    )
    assert data.columns is not None
    age, port = data.columns.columns[:2]
    known = frame["age"][3:40]
    assert (age.shift, age.scale, age.fill) == pytest.approx((known.mean(), known.std(ddof=0), known.median()))
    assert port.categories == ["Cherbourg", "Queenstown", "Southampton"]
    train, test = (data.splits[name][0] for name in ("train", "test"))
    assert train[:3, 0].tolist() == pytest.approx([(age.fill - age.shift) / age.scale] * 3, rel=1e-5)
    assert train[:, 1:4].sum(1).tolist() == [1.0] * 40 and not test[:, 1:4].any() and test[:, 0].min() > 10
    assert "cells with a category that training did not have, which count as none: 20 of 'port'" in data.notes
    assert "missing cells imputed: age (3)" in data.notes


def test_a_missing_category_is_one_of_its_own() -> None:
    frame = people()
    frame.loc[4, "port"] = None
    data = table_data(frame, {"validation_fraction": 0.0, "test_fraction": 0.0}, missing="impute", features=["port"])
    assert data.columns is not None and data.columns.columns[0].categories[0] == ""
    assert data.splits["train"][0][4].tolist() == [1.0, 0.0, 0.0, 0.0]


def test_what_was_fitted_survives_json() -> None:
    frame = people()
    data = table_data(frame)
    assert data.columns is not None
    again = Columns.from_dict(json.loads(json.dumps(data.columns.to_dict())))
    shuffled = frame[frame.columns[::-1]].assign(more=1)
    assert np.array_equal(again.encode(shuffled, str), data.columns.encode(frame, str))


@pytest.mark.parametrize(
    ("target", "target_type", "classes"),
    [
        ("who", "auto", ["alive", "dead"]),
        ("adult", "auto", ["False", "True"]),
        ("age", "auto", []),
        ("grade", "classes", ["2", "10"]),
        ("grade", "values", []),
        (["age", "grade"], "auto", []),
    ],
)
def test_targets_are_classes_or_values(target: Any, target_type: Any, classes: list[str]) -> None:
    frame = people().assign(grade=[2.0, 10.0] * 30)
    arrays = from_frame(frame, target=target, target_type=target_type)
    assert arrays.class_names == classes
    if not classes:
        assert arrays.targets.shape == (60, 2 if isinstance(target, list) else 1)
    elif target == "grade":
        assert arrays.targets.tolist() == [0, 1] * 30


def test_numbers_may_be_categories_and_columns_left_out() -> None:
    frame = people().assign(deck=[1, 2, 3] * 20)
    data = table_data(frame, categories=["deck"], ignore=["port", "day", "adult"])
    assert data.columns is not None and data.columns.names == ["age", "deck"]
    assert data.columns.columns[1].categories == ["1", "2", "3"]


def test_scaling_by_range_and_none() -> None:
    for scaling, largest in (("range", 1.0), ("none", people()["age"].max())):
        data = table_data(
            people(), {"scaling": scaling, "validation_fraction": 0.0, "test_fraction": 0.0}, features=["age"]
        )
        assert data.splits["train"][0].max() == pytest.approx(largest)


def write(frame: pd.DataFrame, name: str = "x.csv", **settings: Any) -> str:
    """The frame as a file, which lies where tests run."""
    frame.to_csv(name, index=False, **settings)
    return name


@pytest.mark.parametrize("dialect", [{}, {"sep": "\t"}, {"sep": ";", "decimal": ","}, {"encoding": "utf-8-sig"}])
def test_a_file_is_its_frame_in_every_dialect(dialect: dict[str, Any]) -> None:
    frame = people().assign(height=np.random.default_rng(1).normal(1.7, 0.1, 60))
    data = ArrayData(read_csv(path=write(frame, **dialect), target="who"))
    assert data.fingerprint == table_data(frame).fingerprint


def test_splits_may_have_files_of_their_own() -> None:
    frame = people()
    train, test = write(frame[:40]), write(frame[40:].assign(more=1), "test.csv")
    arrays = read_csv(path=train, test_path=test, target="who")
    data = ArrayData(arrays)
    assert {name: len(rows) for name, (_, rows) in data.splits.items()} == {"train": 34, "validation": 6, "test": 20}
    frame.loc[45, "who"] = "ill"
    with pytest.raises(UserError, match=r"^test.csv:7: the target 'who' is 'ill', which is none of the classes"):
        read_csv(path=train, test_path=write(frame[40:], "test.csv"), target="who")
    frame.loc[45, "who"], frame["age"] = "dead", frame["age"].astype(object)
    frame.loc[46, "age"] = "old"
    with pytest.raises(UserError, match=r"^test.csv:8: column 'age' is 'old', which is not a finite number"):
        ArrayData(read_csv(path=train, test_path=write(frame[40:], "test.csv"), target="who"))
    with pytest.raises(UserError, match=r"^test.csv:1: has no column 'port'"):
        read_csv(path=train, test_path=write(frame[40:].drop(columns="port"), "test.csv"), target="who")


def test_a_line_is_named_as_an_editor_counts_them(tmp_path: Path) -> None:
    Path("x.csv").write_text('a,b,who\n1,"x\ny",p\n\n2,z,q\ninf,z,q\n3,"x\ny",p\n')
    with pytest.raises(UserError, match=r"^x.csv:6: column 'a' is inf, which is not a finite number"):
        ArrayData(read_csv(path="x.csv", target="who"), validation_fraction=0.0, test_fraction=0.0)


@pytest.mark.parametrize(
    ("cells", "described"),
    [
        (pd.Categorical([1, 2, 3] * 20), "categories (1): c (1, 2, 3)"),
        (pd.array([True, None, False] * 20, dtype="boolean"), "categories (1): c (missing, False, True)"),
        (pd.array([1, None, 3] * 20, dtype="Int64"), "numbers (2): c, age"),
        (pd.date_range("2020", periods=60, tz="UTC"), "dates, as days (2): c, day"),
        ([1, "a", 2.5] * 20, "categories (1): c (1, 2.5, a)"),
        ([[1, 2]] * 60, "column 'c' holds list; make it numbers, text or dates, or leave it out"),
        (pd.period_range("2020", periods=60, freq="D"), "column 'c' holds Period"),
        (pd.to_timedelta(range(60)), "column 'c' holds timedelta64"),
        (np.arange(60) * 1j, "column 'c' holds complex128"),
    ],
)
def test_frames_hold_more_types_than_files(cells: Any, described: str) -> None:
    frame = pd.DataFrame({"c": cells, **people()[["age", "day", "who"]]})
    try:
        description = "\n".join(table_data(frame, missing="impute").notes)
    except UserError as error:
        description = str(error)
    assert described in description
