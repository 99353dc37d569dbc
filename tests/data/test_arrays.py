"""Arrays: split, scaled and sliced so that every row is used as it should."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aibig.config.registry import datasets
from aibig.config.settings import import_object
from aibig.data.arrays import ArrayData, Arrays
from aibig.data.bundled import diabetes, digits
from aibig.data.order import EpochOrder
from aibig.errors import UserError


def test_splits_share_no_row_and_leave_none_out() -> None:
    arrays = digits()
    numbered = Arrays(np.arange(len(arrays.targets))[:, None], arrays.targets, arrays.class_names)
    splits = ArrayData(numbered, scaling="none").splits
    rows = torch.cat([features.flatten() for features, _ in splits.values()])
    assert sorted(rows.tolist()) == list(range(1797))
    assert {name: len(targets) for name, (_, targets) in splits.items()} == {
        **{"train": 1168, "test": 359, "validation": 270}
    }


def test_every_split_has_its_share_of_each_class_and_a_seed_of_its_own() -> None:
    data, again, other = (ArrayData(digits, split_seed=seed) for seed in (0, 0, 1))
    for name, (_, targets) in data.splits.items():
        shares = torch.bincount(targets, minlength=10) / len(targets)
        assert (shares - 0.1).abs().max() < 0.012, name
    assert torch.equal(data.splits["test"][0], again.splits["test"][0])
    assert not torch.equal(data.splits["test"][0], other.splits["test"][0])


def test_scaling_is_fitted_on_the_training_split_alone() -> None:
    data = ArrayData(diabetes)
    train, test = data.splits["train"][0], data.splits["test"][0]
    torch.testing.assert_close(train.mean(0), torch.zeros(10), atol=1e-5, rtol=0)
    torch.testing.assert_close(train.std(0, correction=0), torch.ones(10))
    assert test.mean(0).abs().max() > 1e-3


def test_a_constant_column_is_harmless() -> None:
    features = np.stack([np.ones(50), np.arange(50.0)], 1)
    data = ArrayData(Arrays(features, np.arange(50) % 2, ["a", "b"]))
    assert data.splits["train"][0].isfinite().all() and not data.splits["train"][0][:, 0].any()


@pytest.mark.parametrize(
    ("features", "targets", "complaint"),
    [
        (np.ones((3, 2)), np.zeros(4), "3 rows of features do not match 4 targets"),
        (np.array([[1.0], [np.nan], [2.0]]), np.zeros(3), "row 1, column 0 of the features is not a finite number"),
        (np.ones((3, 1)), np.array([0.0, 1.0, np.inf]), "row 2 of the targets is not a finite number"),
    ],
)
def test_rows_that_cannot_be_used_are_named(features: np.ndarray, targets: np.ndarray, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        ArrayData(Arrays(features, targets))


def test_a_class_of_one_row_cannot_be_split() -> None:
    with pytest.raises(UserError, match="can't be split into training and test split"):
        ArrayData(Arrays(np.ones((20, 1)), np.array([0] * 19 + [1]), ["a", "b"]))


def test_an_epoch_has_every_row_once_and_each_epoch_its_own_order() -> None:
    order = EpochOrder(23, 5, seed=1)
    epochs = [torch.cat([order.next()[0] for _ in range(order.batches_per_epoch)]) for _ in range(2)]
    assert all(sorted(epoch.tolist()) == list(range(23)) for epoch in epochs)
    assert not torch.equal(*epochs)


def test_ranks_share_a_batch_out_between_them() -> None:
    alone = EpochOrder(23, 5, seed=1)
    ranks = [EpochOrder(23, 5, seed=1, rank=rank, world_size=2) for rank in range(2)]
    for _ in range(12):
        batch, size = alone.next()
        shares = [rank.next() for rank in ranks]
        assert sorted(torch.cat([rows for rows, _ in shares]).tolist()) == sorted(batch.tolist())
        assert {total for _, total in shares} == {size}


def test_a_single_row_that_is_left_over_is_added_to_the_last_batch() -> None:
    for ranks in (1, 2):
        order = EpochOrder(21, 5, seed=1, world_size=ranks)
        assert [order.next()[1] for _ in range(5)] == [5, 5, 5, 6, 5] and order.epoch == 1
    assert EpochOrder(1, 5, seed=1).next()[0].tolist() == [0]


def test_an_order_goes_on_where_it_was() -> None:
    order, other = EpochOrder(23, 5, seed=1), EpochOrder(23, 5, seed=1)
    for _ in range(7):
        order.next()
    other.load_state_dict(order.state_dict())
    assert all(torch.equal(order.next()[0], other.next()[0]) for _ in range(9))


def test_targets_that_are_no_class_are_named() -> None:
    with pytest.raises(UserError, match="row 2 of the targets is 5, but 2 classes are numbered from 0 to 1"):
        ArrayData(Arrays(np.ones((4, 1)), np.array([0, 1, 5, 0]), ["a", "b"]))
    with pytest.raises(UserError, match="the targets are not all numbers"):
        ArrayData(Arrays(np.ones((2, 1)), np.array(["yes", "no"])))
    with pytest.raises(UserError, match=r"it must give aibig\.data\.arrays\.Arrays"):
        ArrayData(lambda: (np.ones((2, 1)), np.zeros(2)))  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(
    ("name", "rows", "columns", "classes", "column"),
    [
        ("digits", 1797, 64, 10, "pixel_0_0"),
        ("breast_cancer", 569, 30, 2, "mean radius"),
        ("wine", 178, 13, 3, "alcohol"),
        ("iris", 150, 4, 3, "sepal length (cm)"),
        ("diabetes", 442, 10, 0, "age"),
    ],
)
def test_bundled_tables_are_whole_and_named(name: str, rows: int, columns: int, classes: int, column: str) -> None:
    arrays = import_object(datasets.entry(name).target)()
    assert arrays.features.shape == (rows, columns) and arrays.targets.shape == (rows,)
    assert len(arrays.feature_names) == columns and arrays.feature_names[0] == column
    assert len(arrays.class_names) == classes
    assert all(type(name) is str for name in [*arrays.class_names, *arrays.feature_names])
    if classes:
        assert set(arrays.targets) == set(range(classes))
