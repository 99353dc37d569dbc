"""Images of a batch are shifted, mirrored and rotated as they should be, reproducibly, and keep their labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from aibig.data.arrays import ArrayData, Arrays
from aibig.data.bundled import digits
from aibig.data.images.augmentation import Augmentation, rotate, shift
from aibig.errors import UserError


def images(count: int = 40, **settings: Any) -> ArrayData:
    """Images of random bytes, none of them 0."""
    pixels = np.random.default_rng(0).integers(1, 256, (count, 3, 9, 7), dtype=np.uint8)
    arrays = Arrays(pixels, np.arange(count) % 2, ["even", "odd"])
    return ArrayData(arrays, batch_size=8, scaling="none", validation_fraction=0, test_fraction=0, **settings)


def batches(data: ArrayData, count: int, seed: int = 0, rank: int = 0, world_size: int = 1) -> list[torch.Tensor]:
    training = data.training_batches(seed, rank, world_size)
    return [training.next()[0][0] for _ in range(count)]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_shift_moves_every_pixel_and_brings_in_zeros(dtype: torch.dtype) -> None:
    originals = torch.randint(1, 256, (50, 2, 9, 7)).to(dtype)
    down, right = torch.randint(-3, 4, (2, 50))
    shifted = shift(originals, down, right, 3)
    assert shifted.dtype == dtype
    for original, image, y, x in zip(originals, shifted, down.tolist(), right.tolist(), strict=True):
        expected = torch.zeros_like(original)
        expected[:, max(0, y) : 9 + min(0, y), max(0, x) : 7 + min(0, x)] = original[
            :, max(0, -y) : 9 - max(0, y), max(0, -x) : 7 - max(0, x)
        ]
        assert torch.equal(image, expected)


def test_a_rotation_is_torchvisions() -> None:
    originals = torch.rand(3, 2, 12, 9)
    for degrees in (0, 10, -25, 90):
        rotated = rotate(originals, torch.full((3,), degrees * torch.pi / 180))
        expected = reference.rotate(originals, degrees, interpolation=reference.InterpolationMode.BILINEAR)
        torch.testing.assert_close(rotated, expected, atol=1e-4, rtol=0)


def test_every_shift_occurs_and_half_of_the_images_are_mirrored() -> None:
    points = torch.zeros(600, 1, 9, 9, dtype=torch.uint8)
    points[:, :, 4, 4] = 1
    shifted = Augmentation(shift_pixels=2)(points, torch.Generator().manual_seed(0))
    positions = {tuple(index[2:]) for index in shifted.nonzero().tolist()}
    assert positions == {(y, x) for y in range(2, 7) for x in range(2, 7)} and shifted.sum() == 600
    ramps = torch.arange(9).expand(600, 1, 9, 9)
    is_mirrored = Augmentation(flip=True)(ramps, torch.Generator().manual_seed(0))[:, 0, 0, 0] == 8
    assert 250 < is_mirrored.sum() < 350
    rotated = Augmentation(rotate_degrees=20)(points.float(), torch.Generator().manual_seed(0))
    assert rotated.dtype == torch.float32 and torch.equal(rotated[:, 0, 4, 4].round(), torch.ones(600))


def test_a_batch_is_its_rows_augmented_and_only_in_training() -> None:
    plain, augmented = images(), images(shift_pixels=1)
    for plain_batch, augmented_batch in zip(batches(plain, 5), batches(augmented, 5), strict=True):
        for original, image in zip(plain_batch, augmented_batch, strict=True):
            shifts = [shift(original[None], *torch.tensor([[y], [x]]), 1)[0] for y in (-1, 0, 1) for x in (-1, 0, 1)]
            assert sum(torch.equal(image, shifted) for shifted in shifts) == 1
    targets = [data.training_batches(0, 0, 1).next()[1] for data in (plain, augmented)]
    assert torch.equal(*targets)
    evaluated = [
        torch.cat([inputs[0] for inputs, _ in data.evaluation_batches("train")]) for data in (plain, augmented)
    ]
    assert torch.equal(*evaluated)


def test_augmentation_depends_on_seed_epoch_batch_and_rank_alone() -> None:
    data = images(shift_pixels=2, flip=True, rotate_degrees=15)
    assert all(map(torch.equal, batches(data, 12), batches(data, 12)))
    training, resumed = data.training_batches(0, 0, 1), data.training_batches(0, 0, 1)
    for _ in range(7):
        training.next()
    resumed.load_state_dict(training.state_dict())
    assert all(torch.equal(training.next()[0][0], resumed.next()[0][0]) for _ in range(5))
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
    values = sorted({round(value, 3) for value in features.flatten().tolist()})
    assert values == [-3.0, -1.0, 1.0]  # what comes from beyond the edge is black, not grey


def test_data_that_are_no_images_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"are for images of bytes \(rows, C, H, W\); these are float32 of shape \[1797, 64\]"
    ):
        ArrayData(digits, shift_pixels=1)
