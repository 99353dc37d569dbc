"""Images of a batch are moved, mirrored and turned as they should be, labels with them, and exactly so again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from aibig.data.arrays import ArrayData, Arrays
from aibig.data.bundled import digits
from aibig.data.images.augmentation import Augmentation, rotated, shifted
from aibig.errors import UserError


def images(count: int = 40, **settings: Any) -> ArrayData:
    """Bytes whose first pixel of the middle row says which image it is."""
    pixels = np.random.default_rng(0).integers(1, 256, (count, 3, 9, 7), dtype=np.uint8)
    arrays = Arrays(pixels, np.arange(count) % 2, ["even", "odd"])
    return ArrayData(arrays, batch_size=8, scaling="none", validation_fraction=0, test_fraction=0, **settings)


def batches(data: ArrayData, count: int, seed: int = 0, rank: int = 0, world_size: int = 1) -> list[torch.Tensor]:
    source = data.training_batches(seed, rank, world_size)
    return [source.next()[0][0] for _ in range(count)]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_shift_moves_every_pixel_and_brings_in_zeros(dtype: torch.dtype) -> None:
    given = torch.randint(1, 256, (50, 2, 9, 7)).to(dtype)
    down, right = torch.randint(-3, 4, (2, 50))
    moved = shifted(given, down, right, 3)
    assert moved.dtype == dtype
    for one, other, y, x in zip(given, moved, down.tolist(), right.tolist(), strict=True):
        expected = torch.zeros_like(one)
        expected[:, max(0, y) : 9 + min(0, y), max(0, x) : 7 + min(0, x)] = one[
            :, max(0, -y) : 9 - max(0, y), max(0, -x) : 7 - max(0, x)
        ]
        assert torch.equal(other, expected)


def test_a_rotation_is_torchvisions() -> None:
    given = torch.rand(3, 2, 12, 9)
    for degrees in (0, 10, -25, 90):
        turned = rotated(given, torch.full((3,), degrees * torch.pi / 180))
        theirs = reference.rotate(given, degrees, interpolation=reference.InterpolationMode.BILINEAR)
        torch.testing.assert_close(turned, theirs, atol=1e-4, rtol=0)


def test_every_shift_and_half_of_the_mirrorings_come() -> None:
    given = torch.zeros(600, 1, 9, 9, dtype=torch.uint8)
    given[:, :, 4, 4] = 1
    moved = Augmentation(shift_pixels=2)(given, torch.Generator().manual_seed(0))
    places = {tuple(place[2:]) for place in moved.nonzero().tolist()}
    assert places == {(y, x) for y in range(2, 7) for x in range(2, 7)} and moved.sum() == 600
    lopsided = torch.arange(9).expand(600, 1, 9, 9)
    mirrored = Augmentation(flip=True)(lopsided, torch.Generator().manual_seed(0))[:, 0, 0, 0] == 8
    assert 250 < mirrored.sum() < 350
    wedge = Augmentation(rotate_degrees=20)(given.float(), torch.Generator().manual_seed(0))
    assert wedge.dtype == torch.float32 and torch.equal(wedge[:, 0, 4, 4].round(), torch.ones(600))


def test_a_batch_is_its_rows_augmented_and_only_in_training() -> None:
    plain, augmented = images(), images(shift_pixels=1)
    before, after = batches(plain, 5), batches(augmented, 5)
    for one, other in zip(before, after, strict=True):
        for image, moved in zip(one, other, strict=True):
            shifts = [shifted(image[None], *torch.tensor([[y], [x]]), 1)[0] for y in (-1, 0, 1) for x in (-1, 0, 1)]
            assert sum(torch.equal(moved, shift) for shift in shifts) == 1
    targets = [data.training_batches(0, 0, 1).next()[1] for data in (plain, augmented)]
    assert torch.equal(*targets)
    whole = [torch.cat([one[0] for one, _ in data.evaluation_batches("train")]) for data in (plain, augmented)]
    assert torch.equal(*whole)


def test_what_is_drawn_depends_on_seed_epoch_batch_and_rank_alone() -> None:
    data = images(shift_pixels=2, flip=True, rotate_degrees=15)
    assert all(torch.equal(one, other) for one, other in zip(batches(data, 12), batches(data, 12), strict=True))
    source, other = data.training_batches(0, 0, 1), data.training_batches(0, 0, 1)
    for _ in range(7):
        source.next()
    other.load_state_dict(source.state_dict())
    assert all(torch.equal(source.next()[0][0], other.next()[0][0]) for _ in range(5))
    order = data.training_batches(0, 0, 1)._order  # type: ignore[attr-defined]
    seeds = set()
    for rank in range(2):
        order._rank = rank
        for order.epoch in range(3):
            for order._batch in range(3):
                seeds.add(order.seed_of_batch("augmentation"))
    assert len(seeds) == 18


def test_scaling_follows_augmentation() -> None:
    pixels = np.full((40, 1, 6, 6), 100, np.uint8)
    pixels[:20] = 200
    arrays = Arrays(pixels, np.arange(40) // 20, ["dark", "light"])
    (features,), _, _ = ArrayData(arrays, scaling="standard", shift_pixels=3).training_batches(0, 0, 1).next()
    found = sorted({round(value, 3) for value in features.flatten().tolist()})
    assert found == [-3.0, -1.0, 1.0]  # what comes from beyond the edge is black, not grey


def test_data_that_are_no_images_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"are for images of bytes \(rows, C, H, W\); these are float32 of shape \[1797, 64\]"
    ):
        ArrayData(digits, shift_pixels=1)
