"""Splits: every row once, by the method that was asked for, or refused with the cure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aibig.data.splits import predefined_rows, split_rows
from aibig.errors import UserError

ROWS = 200
CLASSES = (np.arange(ROWS) % 10 < 2).astype(int)  # a fifth are of class 1
GROUPS = np.random.default_rng(0).integers(0, 40, ROWS)
TIMES = np.random.default_rng(1).permutation(ROWS)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"classes": CLASSES},
        {"groups": GROUPS, "classes": CLASSES},
        {"times": TIMES},
        {"predefined": {"test": [5, 3]}},
    ],
    ids=["random", "stratified", "grouped", "time", "predefined"],
)
def test_every_row_is_in_one_split_and_the_seed_decides(settings: dict[str, Any]) -> None:
    splits, again = (split_rows(ROWS, 0.15, 0.2, 3, **settings) for _ in range(2))
    assert list(splits) == ["train", "validation", "test"]
    assert sorted(np.concatenate([*splits.values()]).tolist()) == list(range(ROWS))
    assert all(np.array_equal(splits[name], again[name]) and (np.diff(splits[name]) > 0).all() for name in splits)
    if "times" not in settings:
        assert not np.array_equal(splits["train"], split_rows(ROWS, 0.15, 0.2, 4, **settings)["train"])


def test_each_split_has_its_share_of_each_class() -> None:
    for rows in split_rows(ROWS, 0.15, 0.2, 0, classes=CLASSES).values():
        assert abs(CLASSES[rows].mean() - 0.2) < 0.01


def test_no_group_is_divided_and_sizes_and_classes_come_near() -> None:
    for seed in range(5):
        splits = split_rows(ROWS, 0.15, 0.2, seed, classes=CLASSES, groups=GROUPS)
        groups = [set(GROUPS[rows]) for rows in splits.values()]
        assert not groups[0] & groups[1] and not groups[1] & groups[2] and not groups[0] & groups[2]
        for name, fraction in (("validation", 0.15), ("test", 0.2)):
            assert abs(len(splits[name]) / ROWS - fraction) < 0.03
            assert abs(CLASSES[splits[name]].mean() - 0.2) < 0.06


def test_the_latest_rows_test_and_rows_of_the_same_time_stay_together() -> None:
    times = TIMES // 9
    splits = split_rows(ROWS, 0.15, 0.2, 0, times=times)
    assert times[splits["train"]].max() < times[splits["validation"]].min()
    assert times[splits["validation"]].max() < times[splits["test"]].min()
    assert len(splits["test"]) >= 40


def test_predefined_splits_are_kept_and_the_others_are_made_of_the_rest() -> None:
    splits = split_rows(ROWS, 0.15, 0.2, 0, predefined={"test": np.arange(50)})
    assert splits["test"].tolist() == list(range(50)) and len(splits["validation"]) == round(0.15 * 150)
    complete = {"train": [0, 1], "validation": [2], "test": [3]}
    splits = split_rows(ROWS, 0.5, 0.5, 0, predefined=complete)
    assert {name: rows.tolist() for name, rows in splits.items()} == complete


def test_splits_that_stand_one_after_another_have_consecutive_rows() -> None:
    rows = predefined_rows({"train": 3, "test": 2, "validation": 0})
    assert {name: index.tolist() for name, index in rows.items()} == {"test": [3, 4], "validation": []}


@pytest.mark.parametrize(
    ("count", "settings", "complaint"),
    [
        (20, {"classes": [0] * 19 + [1], "class_names": ["a", "b"]}, "class 'b' has 1 row; .* set data.split=random"),
        (10, {"classes": [0, 1, 2] * 3 + [0]}, "3 classes, but 2 of 10 rows for the test split"),
        (20, {"groups": [7] * 20}, "are of one group; give more groups"),
        (20, {"times": [7] * 20}, "all rows have the same time"),
        (20, {"method": "grouped"}, "split 'grouped' needs groups; name their column in data.group"),
        (20, {"predefined": {"test": [1, 2], "validation": [2]}}, "row 2 is in the splits 'test' and 'validation'"),
        (20, {"predefined": {"test": [20]}}, "has row 20, but rows go from 0 to 19"),
        (20, {"predefined": {"tests": [2]}}, "a split 'tests'; there are: train, validation, test"),
        (20, {"predefined": {"test": range(20)}}, "no row is left to train on"),
    ],
)
def test_rows_that_cannot_be_split_are_refused_with_the_cure(
    count: int, settings: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        split_rows(count, 0.15, 0.2, 0, **settings)


def test_fractions_that_leave_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="leave nothing to train on"):
        split_rows(20, 0.5, 0.5, 0)
