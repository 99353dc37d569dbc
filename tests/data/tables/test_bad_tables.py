"""Tables as people have them: each trains as documented, or is refused in one line, and then nothing is left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aibig.cli import main

Table = Callable[[pd.DataFrame], "pd.DataFrame | str | bytes"]


def flowers(count: int = 60) -> pd.DataFrame:
    """Two measurements and a colour, of three kinds."""
    rng = np.random.default_rng(0)
    kinds = np.arange(count) % 3
    return pd.DataFrame(
        {
            "length": kinds + rng.normal(0, 0.3, count).round(3),
            "width": rng.normal(0, 1, count).round(3),
            "colour": np.array(["red", "white", "blue"])[kinds],
            "kind": np.array(["rose", "lily", "iris"])[kinds],
        }
    )


def with_cell(row: int, column: str, value: object) -> Table:
    """The table with another cell."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame[column] = frame[column].astype(object)
        frame.loc[row, column] = value
        return frame

    return change


def train(table: Table, *settings: str) -> int:
    """The exit code of `aibig train` on a changed table."""
    changed = table(flowers())
    content = changed.to_csv(index=False) if isinstance(changed, pd.DataFrame) else changed
    Path("x.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    Path("x.yaml").write_text(
        "model: {name: net, hidden: 8}\ntask: {name: classification}\n"
        "data: {name: csv, path: x.csv, target: kind}\ntrainer: {max_steps: 5, threads: 1}\n"
    )
    return main(["train", "--config", "x.yaml", *settings])


NAN, INF = float("nan"), float("inf")
REGRESSION = ("task.name=regression", "data.target=length")


@pytest.mark.parametrize(
    ("table", "settings", "note"),
    [
        (lambda frame: frame, (), "data: categories (1): colour (blue, red, white)"),
        (lambda frame: frame.assign(ship="Titanic"), (), "data: left out: ship (is constant)"),
        (lambda frame: frame.assign(nothing=NAN), (), "data: left out: nothing (is empty)"),
        (lambda frame: frame.reset_index(), (), "data: left out: index (counts the rows; data.features keeps it)"),
        (lambda frame: frame[:10], ("data.split=random",), "data: rows: 6 train, 2 validation, 2 test"),
        (lambda frame: frame[frame["kind"] != "lily"][:10], (), "data: rows: 6 train, 2 validation, 2 test"),
        (
            lambda frame: pd.concat([frame[frame["kind"] != "lily"], frame[frame["kind"] == "lily"][:1]]),
            ("data.split=random",),
            "split has no row of class 'lily'",
        ),
        (with_cell(3, "length", NAN), ("data.missing=impute",), "data: missing cells imputed: length (1)"),
        (with_cell(3, "colour", NAN), ("data.missing=impute",), "colour (missing, blue, red, white)"),
        (lambda frame: frame.assign(kind=np.arange(60) % 3), (), "data: rows: "),
        (lambda frame: frame, REGRESSION, "data: rows: 39 train"),
        (
            lambda frame: frame.assign(day=pd.date_range("2024-01-01", periods=60).astype(str)),
            (),
            "data: dates, as days (1): day",
        ),
        (
            lambda frame: frame.assign(plant=np.arange(60) // 4),
            ("data.group=plant",),
            "data: rows: 36 train, 12 validation, 12 test",
        ),
        (lambda frame: frame.assign(at=range(60)), ("data.time=at",), "data: rows: 39 train, 9 validation, 12 test"),
    ],
    ids=range(14),
)
def test_it_trains_as_documented(
    table: Table, settings: tuple[str, ...], note: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(table, *settings) == 0
    assert note in capsys.readouterr().err
    assert main(["predict", "runs/x-0001", "x.csv"]) == 0
    assert main(["evaluate", "runs/x-0001", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(pd.read_csv("x.csv"))
    result = json.loads(Path("runs/x-0001/result.json").read_text())["metrics"]
    assert json.loads(lines[-1])["metrics"] == pytest.approx(result, abs=1e-5)


@pytest.mark.parametrize(
    ("table", "settings", "complaint"),
    [
        (lambda frame: frame.assign(kind="rose"), (), "the target 'kind' has one class only, 'rose'"),
        (lambda frame: frame[["kind"]], (), "no column is left to learn from"),
        (lambda frame: frame[["kind"]].assign(same=1), (), "no column is left to learn from ('same' is constant)"),
        (lambda frame: frame[:10], (), "3 classes, but 2 of 10 rows for the test split"),
        (lambda frame: frame[:1], (), "has one class only"),
        (with_cell(3, "kind", "tulip"), (), "class 'tulip' has 1 row; give more of it, leave it out, or set data."),
        (with_cell(3, "length", NAN), (), "x.csv:5: column 'length' is missing; fill it in, train with data.missing"),
        (with_cell(3, "colour", NAN), (), "x.csv:5: column 'colour' is missing"),
        (with_cell(3, "length", INF), (), "x.csv:5: column 'length' is inf, which is not a finite number"),
        (with_cell(3, "length", -INF), ("data.missing=impute",), "x.csv:5: column 'length' is -inf"),
        (with_cell(3, "kind", NAN), ("data.missing=impute",), "x.csv:5: the target 'kind' is missing"),
        (lambda frame: frame.assign(kind=NAN), (), "x.csv:2: the target 'kind' is missing (so are 59 more)"),
        (lambda frame: frame, ("data.target=[]",), "target names no column"),
        (lambda frame: frame, ("data.features=[width,width]",), "column 'width' is among the features twice"),
        (
            lambda frame: frame.to_csv(index=False) + "\n   \n1,many,red,rose\n",
            (),
            "x.csv:64: column 'width' is 'many'",
        ),
        (
            lambda frame: frame.assign(day=[*pd.date_range("2024-01-01", periods=59).astype(str), "2024-13-45"]),
            (),
            "x.csv:61: column 'day' is '2024-13-45', which is not a date such as",
        ),
        (with_cell(3, "length", INF), REGRESSION, "x.csv:5: the target 'length' is inf, which is not a finite number"),
        (lambda frame: frame, ("task.name=regression",), "x.csv:2: the target 'kind' is 'rose', which is not a finite"),
        (lambda frame: frame, ("data.target=width",), "60 different numbers in 60 rows, such as"),
        (lambda frame: frame, ("data.target=knid",), "x.csv:1: has no column 'knid'; did you mean 'kind'?"),
        (lambda frame: frame, ("data.target=[kind,length]",), "2 targets can't be classes"),
        (lambda frame: frame, ("data.ignore=[smell]",), "x.csv:1: has no column 'smell'; it has: length, width"),
        (lambda frame: frame, ("data.features=[kind]",), "column 'kind' is the target"),
        (
            lambda frame: frame.assign(day=pd.date_range("2024-01-01", periods=60).strftime("%d.%m.%Y")),
            ("data.max_categories=20",),
            "column 'day' is text with 39 different values in 39 rows of the training split, such as",
        ),
        (
            lambda frame: frame.assign(name=[f"flower {row}" for row in range(60)]),
            ("data.max_categories=20",),
            "leave it out (data.ignore=[name]), or raise data.max_categories",
        ),
        (with_cell(3, "length", "long"), (), "x.csv:5: column 'length' is 'long', which is not a finite number"),
        (with_cell(3, "length", True), (), "x.csv:5: column 'length' is 'True', which is not a finite number"),
        (lambda frame: frame.set_axis(["a", "b", "a", "kind"], axis=1), (), "x.csv:1: has two columns named 'a'"),
        (lambda frame: frame.set_axis(["a", "", "", "kind"], axis=1), (), "x.csv:1: has two columns without a name"),
        (lambda frame: "", (), "x.csv: is empty"),
        (lambda frame: "\n \n", (), "x.csv: is empty"),
        (lambda frame: frame[:0], (), "x.csv: has a header and no rows"),
        (lambda frame: "length,kind\n1,rosé\n".encode("latin-1"), (), "x.csv: is not UTF-8 text (byte 17)"),
        (lambda frame: frame.to_csv(index=False) + "1,2,3,4,5\n", (), "x.csv:62: has 5 columns, the lines before 4"),
        (lambda frame: "a,kind\n1,2,3\n", (), "x.csv:2: has 3 columns, the line before 2"),
        (lambda frame: 'a,kind\n"1,2\n', (), "x.csv: is not a table"),
        (lambda frame: frame.assign(plant=1), ("data.group=plant",), "are of one group; give more groups"),
        (lambda frame: frame.assign(at="soon"), ("data.time=at",), "x.csv:2: column 'at' is 'soon', which is neither"),
        (lambda frame: frame, ("data.split=time",), "split 'time' needs times; name their column in data.time"),
        (lambda frame: frame, ("data.separator=tab",), "the separator 'tab' is not one character"),
    ],
    ids=range(40),
)
def test_it_is_refused_in_one_line_and_nothing_is_left(
    table: Table, settings: tuple[str, ...], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(table, *settings) == 2
    output = capsys.readouterr()
    assert complaint in output.err and output.err.startswith("x.yaml:3: data: ")
    assert output.err.count("\n") == 1 and not output.out
    assert not Path("runs").exists()
