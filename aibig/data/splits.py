"""Which rows train, which validate, which test. Knows row numbers, classes, groups and times; no features.

Whatever the method, the same seed gives the same splits, for every seed of training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aibig.errors import UserError

SplitMethod = Literal["auto", "stratified", "random", "grouped", "time"]
Rows = NDArray[np.int64]
SPLITS = ("train", "validation", "test")
GROUP_SPLITS_TRIED = 100


def split_rows(
    count: int,
    validation_fraction: float,
    test_fraction: float,
    seed: int,
    *,
    method: SplitMethod = "auto",
    classes: ArrayLike | None = None,
    class_names: Sequence[str] = (),
    groups: ArrayLike | None = None,
    times: ArrayLike | None = None,
    predefined: Mapping[str, ArrayLike] | None = None,
) -> dict[str, Rows]:
    """Divide row numbers into splits.

    Args:
        count: number of rows.
        validation_fraction: share of the rows for validation, from 0 to 1.
        test_fraction: share of the rows for the test, from 0 to 1.
        seed: which rows, where they are chosen at random.
        method: "stratified" gives each split its share of each class. "random" ignores classes. "grouped" keeps the
            rows of a group in one split: of many random divisions of the groups, it takes the one whose number of
            rows of each class is nearest to the fractions. "time" tests on the latest rows and validates on those
            before; rows with the same time stay together, in the later split. "auto" takes "time" if there are
            times, else "grouped" if there are groups, else "stratified" if there are classes, else "random".
        classes: (count,) class numbers.
        class_names: by class number, for errors.
        groups: (count,) anything that identifies a row's group.
        times: (count,) numbers in the order of time.
        predefined: row numbers of splits that are decided already. The others are chosen from the remaining rows,
            unless "train" is among them: then nothing is chosen.

    Returns:
        Row numbers of "train", "validation" and "test", ascending; the latter two are missing where empty.

    Raises:
        UserError: the rows don't allow it; it names the cure.
    """
    splits = _checked(predefined or {}, count)
    remaining: Rows = np.setdiff1d(np.arange(count), np.concatenate([np.empty(0, np.int64), *splits.values()]))
    if "train" not in splits:
        fractions = {"test": test_fraction, "validation": validation_fraction}
        fractions = {name: fraction for name, fraction in fractions.items() if name not in splits}
        if sum(fractions.values()) >= 1:
            raise UserError("validation_fraction and test_fraction together leave nothing to train on")
        criteria = {"stratified": classes, "grouped": groups, "time": times}
        rule, total = _rule(method, criteria), len(remaining)
        for name, fraction in fractions.items():
            size = round(fraction * total)
            if size:
                remaining, splits[name] = _split_off(rule, name, remaining, size, seed, criteria, class_names)
        splits["train"] = remaining
    if not len(splits["train"]):
        raise UserError("no row is left to train on; give more rows, or lower the fractions of the other splits")
    return {name: np.sort(splits[name]) for name in SPLITS if len(splits.get(name, ()))}


def predefined_rows(sizes: Mapping[str, int]) -> dict[str, Rows]:
    """The row numbers of each split but "train", where the rows of the splits stand one after another.

    Args:
        sizes: number of rows of each split, in order.
    """
    rows = np.split(np.arange(sum(sizes.values())), np.cumsum([*sizes.values()])[:-1])
    return {name: index for name, index in zip(sizes, rows, strict=True) if name != "train"}


def _checked(predefined: Mapping[str, ArrayLike], count: int) -> dict[str, Rows]:
    splits: dict[str, Rows] = {}
    for name, numbers in predefined.items():
        if name not in SPLITS:
            raise UserError(f"rows are predefined for a split {name!r}; there are: {', '.join(SPLITS)}")
        rows = np.asarray(numbers).astype(np.int64).ravel()
        if len(rows) and (rows.min() < 0 or rows.max() >= count):
            raise UserError(f"the split {name!r} has row {rows.max()}, but rows go from 0 to {count - 1}")
        for other, other_rows in splits.items():
            if len(both := np.intersect1d(rows, other_rows)):
                raise UserError(f"row {both[0]} is in the splits {other!r} and {name!r}; leave it in one")
        splits[name] = rows
    return splits


def _rule(method: SplitMethod, criteria: Mapping[str, ArrayLike | None]) -> str:
    """The method, resolved where it is "auto". Raises UserError if its criterion is missing."""
    if method == "auto":
        return next((rule for rule in ("time", "grouped", "stratified") if criteria[rule] is not None), "random")
    if method != "random" and criteria[method] is None:
        needs = {
            "stratified": "classes; values are split with 'random'",
            "grouped": "groups; name their column in data.group",
            "time": "times; name their column in data.time",
        }
        raise UserError(f"split {method!r} needs {needs[method]}")
    return method


def _split_off(
    rule: str, name: str, rows: Rows, size: int, seed: int, criteria: Mapping[str, Any], class_names: Sequence[str]
) -> tuple[Rows, Rows]:
    """(rows that remain, rows of the split `name`)."""
    if size >= len(rows):
        raise UserError(f"{len(rows)} rows can't give {size} to the {name} split; give more rows")
    of_rows: list[Any] = [
        None if criteria[key] is None else np.asarray(criteria[key])[rows] for key in ("stratified", "grouped", "time")
    ]
    classes, groups, times = of_rows
    if rule == "time":
        return _split_by_time(name, rows, size, times)
    if rule == "grouped":
        return _split_by_group(name, rows, size, seed, groups, classes)
    from sklearn.model_selection import train_test_split

    classes = classes if rule == "stratified" else None
    if classes is not None:
        _check_class_sizes(name, size, classes, class_names)
    remaining, chosen = train_test_split(rows, test_size=size, random_state=seed, stratify=classes)
    return remaining, chosen


def _check_class_sizes(name: str, size: int, classes: NDArray[Any], class_names: Sequence[str]) -> None:
    """Raise UserError where a class has too few rows for each split to have some."""
    numbers, counts = np.unique(classes, return_counts=True)
    problem = f"the rows can't be split into training and {name} split with each class in both"
    if counts.min() < 2:
        rare = numbers[counts.argmin()]
        rare = class_names[int(rare)] if class_names else str(rare)
        raise UserError(f"{problem}: class {rare!r} has 1 row; give more of it, leave it out, or set data.split=random")
    if min(size, len(classes) - size) < len(numbers):
        raise UserError(
            f"{problem}: {len(numbers)} classes, but {size} of {len(classes)} rows for the {name} split; give more "
            f"rows, change data.{name}_fraction, or set data.split=random"
        )


def _split_by_time(name: str, rows: Rows, size: int, times: NDArray[Any]) -> tuple[Rows, Rows]:
    order = np.argsort(times, kind="stable")
    boundary = int(np.searchsorted(times[order], times[order[-size]], "left"))  # rows of the same time together
    if not boundary:
        raise UserError(f"all rows have the same time, so the {name} split would take them all; set data.split=random")
    return rows[order[:boundary]], rows[order[boundary:]]


def _split_by_group(
    name: str, rows: Rows, size: int, seed: int, groups: NDArray[Any], classes: NDArray[Any] | None
) -> tuple[Rows, Rows]:
    from sklearn.model_selection import GroupShuffleSplit

    group_count = len(np.unique(groups))
    if group_count < 2:
        raise UserError(f"all rows that are left for training and {name} split are of one group; give more groups")
    _, class_of_row = np.unique(np.zeros(len(rows)) if classes is None else classes, return_inverse=True)
    ideal = np.bincount(class_of_row) * (size / len(rows))
    fraction = min(max(size / len(rows), 1 / group_count), 1 - 1 / group_count)
    divisions = GroupShuffleSplit(GROUP_SPLITS_TRIED, test_size=fraction, random_state=seed).split(rows, groups=groups)

    def deviation(division: tuple[Rows, Rows]) -> float:
        return float(np.abs(np.bincount(class_of_row[division[1]], minlength=len(ideal)) - ideal).sum())

    remaining, chosen = min(divisions, key=deviation)
    return rows[remaining], rows[chosen]
