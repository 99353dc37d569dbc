"""Which rows train, which validate, which test. Knows row numbers, classes, groups and times; no features.

Whatever the rule, the same seed gives the same parts, for every seed of training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aibig.errors import UserError

Split = Literal["auto", "stratified", "random", "grouped", "time"]
Rows = NDArray[np.int64]
PARTS = ("train", "validation", "test")
GROUP_SPLITS_TRIED = 100


def split_rows(
    count: int,
    validation_fraction: float,
    test_fraction: float,
    seed: int,
    *,
    split: Split = "auto",
    classes: ArrayLike | None = None,
    class_names: Sequence[str] = (),
    groups: ArrayLike | None = None,
    times: ArrayLike | None = None,
    given: Mapping[str, ArrayLike] | None = None,
) -> dict[str, Rows]:
    """Row numbers of "train", "validation" and "test", ascending; the latter two are missing where empty.

    split: "stratified": each part has its share of each of `classes`. "random". "grouped": no group lies in two
    parts; of many random divisions of the groups, the one whose numbers of rows, of each class, come nearest to
    the fractions. "time": test is the latest, validation what precedes it; rows of one moment stay together, in
    the later part. "auto": by time if there are `times`, else by groups, else stratified if there are classes.
    classes (`class_names` names them in errors), groups, times: (count,) each. given: the rows of parts that are
    decided already; the others are made of the remaining rows, unless "train" is given: then the parts are as given.

    Raises UserError, with the cure, where the rows don't allow it.
    """
    parts = _checked(given or {}, count)
    rest: Rows = np.setdiff1d(np.arange(count), np.concatenate([np.empty(0, np.int64), *parts.values()]))
    if "train" not in parts:
        fractions = {"test": test_fraction, "validation": validation_fraction}
        fractions = {part: fraction for part, fraction in fractions.items() if part not in parts}
        if sum(fractions.values()) >= 1:
            raise UserError("validation_fraction and test_fraction together leave nothing to train on")
        known = {"stratified": classes, "grouped": groups, "time": times}
        by = _rule(split, known)
        total = len(rest)
        for part, fraction in fractions.items():
            wanted = round(fraction * total)
            if wanted:
                rest, parts[part] = _take(by, part, rest, wanted, seed, known, class_names)
        parts["train"] = rest
    if not len(parts["train"]):
        raise UserError("no row is left to train on; give more rows, or lower the fractions of the other parts")
    return {part: np.sort(parts[part]) for part in PARTS if len(parts.get(part, ()))}


def _checked(given: Mapping[str, ArrayLike], count: int) -> dict[str, Rows]:
    parts: dict[str, Rows] = {}
    for part, numbers in given.items():
        if part not in PARTS:
            raise UserError(f"rows are given for a part {part!r}; there are: {', '.join(PARTS)}")
        rows = np.asarray(numbers).astype(np.int64).ravel()
        if len(rows) and (rows.min() < 0 or rows.max() >= count):
            raise UserError(f"the part {part!r} is given row {rows.max()}, but rows go from 0 to {count - 1}")
        for other, others in parts.items():
            if len(both := np.intersect1d(rows, others)):
                raise UserError(f"row {both[0]} is given to the parts {other!r} and {part!r}; give it to one")
        parts[part] = rows
    return parts


def _rule(split: Split, known: Mapping[str, ArrayLike | None]) -> str:
    """What the rows are split by; `known` holds what each rule goes by."""
    if split == "auto":
        return next((rule for rule in ("time", "grouped", "stratified") if known[rule] is not None), "random")
    if split != "random" and known[split] is None:
        needs = {
            "stratified": "classes; values are split with 'random'",
            "grouped": "groups; name their column in data.group",
            "time": "times; name their column in data.time",
        }
        raise UserError(f"split {split!r} needs {needs[split]}")
    return split


def _take(
    by: str, part: str, rest: Rows, wanted: int, seed: int, known: Mapping[str, Any], class_names: Sequence[str]
) -> tuple[Rows, Rows]:
    """(rows that remain, rows of `part`)."""
    of: dict[str, Any] = {name: None if values is None else np.asarray(values)[rest] for name, values in known.items()}
    if wanted >= len(rest):
        raise UserError(f"{len(rest)} rows can't give {wanted} to the {part} part; give more rows")
    if by == "time":
        return _latest(part, rest, wanted, of["time"])
    if by == "grouped":
        return _whole_groups(part, rest, wanted, seed, of["grouped"], of["stratified"])
    from sklearn.model_selection import train_test_split

    classes = of["stratified"] if by == "stratified" else None
    if classes is not None:
        _refuse_few(part, wanted, classes, class_names)
    remaining, chosen = train_test_split(rest, test_size=wanted, random_state=seed, stratify=classes)
    return remaining, chosen


def _refuse_few(part: str, wanted: int, classes: NDArray[Any], class_names: Sequence[str]) -> None:
    """Raise UserError where a class has too few rows for each part to have some."""
    numbers, counts = np.unique(classes, return_counts=True)
    where = f"the rows can't be split into training and {part} part with each class in both"
    if counts.min() < 2:
        rare = numbers[counts.argmin()]
        name = class_names[int(rare)] if class_names else str(rare)
        raise UserError(f"{where}: class {name!r} has 1 row; give more of it, leave it out, or set data.split=random")
    if min(wanted, len(classes) - wanted) < len(numbers):
        raise UserError(
            f"{where}: {len(numbers)} classes, but {wanted} of {len(classes)} rows for the {part} part; give more "
            f"rows, change data.{part}_fraction, or set data.split=random"
        )


def _latest(part: str, rest: Rows, wanted: int, times: NDArray[Any]) -> tuple[Rows, Rows]:
    order = np.argsort(times, kind="stable")
    border = int(np.searchsorted(times[order], times[order[-wanted]], "left"))  # rows of one moment together
    if not border:
        raise UserError(f"the {part} part takes all rows of a moment, and there is only one; set data.split=random")
    return rest[order[:border]], rest[order[border:]]


def _whole_groups(
    part: str, rest: Rows, wanted: int, seed: int, groups: NDArray[Any], classes: NDArray[Any] | None
) -> tuple[Rows, Rows]:
    from sklearn.model_selection import GroupShuffleSplit

    if len(np.unique(groups)) < 2:
        raise UserError(f"all rows that are left for training and {part} part are of one group; give more groups")
    _, kinds = np.unique(np.zeros(len(rest)) if classes is None else classes, return_inverse=True)
    aim = np.bincount(kinds) * (wanted / len(rest))
    fraction = min(max(wanted / len(rest), 1 / len(np.unique(groups))), 1 - 1 / len(np.unique(groups)))
    tried = GroupShuffleSplit(GROUP_SPLITS_TRIED, test_size=fraction, random_state=seed).split(rest, groups=groups)

    def misses(division: tuple[Rows, Rows]) -> float:
        return float(np.abs(np.bincount(kinds[division[1]], minlength=len(aim)) - aim).sum())

    remaining, chosen = min(tried, key=misses)
    return rest[remaining], rest[chosen]
