"""Torchvision's datasets: every name that is offered is one of theirs, and mnist is read with its own test part."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aibig.data.arrays import ArrayData
from aibig.data.vision_datasets import read_arrays
from aibig.data.vision_table import IN_MEMORY
from aibig.errors import UserError
from aibig.registry import datasets

OF_OTHER_THINGS = {  # detection, segmentation, captions, pairs, attributes, flow, stereo, video, or the user's own
    *("CarlaStereo", "CelebA", "Cityscapes", "CocoCaptions", "CocoDetection", "CREStereo", "DatasetFolder"),
    *("ETH3DStereo", "FakeData", "FallingThingsStereo", "Flickr30k", "Flickr8k", "FlyingChairs", "FlyingThings3D"),
    *("HD1K", "HMDB51", "ImageFolder", "InStereo2k", "Kinetics", "Kitti", "Kitti2012Stereo", "Kitti2015Stereo"),
    *("KittiFlow", "LFWPairs", "LSUN", "LSUNClass", "Middlebury2014Stereo", "MovingMNIST", "PhotoTour", "SBDataset"),
    *("SBU", "SceneFlowStereo", "Sintel", "SintelStereo", "UCF101", "VOCDetection", "VOCSegmentation", "VisionDataset"),
    *("WIDERFace", "wrap_dataset_for_transforms_v2"),
}


def test_every_name_is_torchvisions_and_its_parts_are_arguments_of_its_class() -> None:
    import inspect

    import torchvision.datasets as theirs

    for name, parts in IN_MEMORY.items():
        assert name in theirs.__all__
        known = inspect.signature(getattr(theirs, name)).parameters
        takes_any = any(one.kind is one.VAR_KEYWORD for one in known.values())
        assert takes_any or {key for part in parts.values() for key in part} <= set(known), name
        assert "root" in datasets.settings(name)


def test_mnist_keeps_its_own_test_part(real_data: Path) -> None:
    data = datasets.create("mnist", root=str(real_data), validation_fraction=0.1)
    assert {name: len(targets) for name, (_, targets) in data.parts.items()} == {
        **{"train": 54_000, "test": 10_000, "validation": 6_000}
    }
    images, targets = data.parts["test"]
    assert images.dtype == torch.uint8 and data.sample_shape == [1, 28, 28]
    assert targets[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]  # as the file of the test part begins
    assert data.class_names == [str(digit) for digit in range(10)]
    assert data.model_settings() == {"in_features": 784, "in_channels": 1, "image_size": 28}
    some, _ = data.training_rows(torch.arange(5000))
    assert abs(some.mean().item()) < 0.05 and abs(some.std().item() - 1) < 0.05


def test_colour_images_come_channels_first(tmp_path: Path) -> None:
    """CIFAR10's files, as they are, but with few images; its checksums aside."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    for number, file in enumerate([*(f"data_batch_{one}" for one in range(1, 6)), "test_batch"]):
        (folder / file).write_bytes(pickle.dumps({"data": pixels[number].reshape(1, -1), "labels": [number]}))
    names = [f"class {number}" for number in range(10)]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
        arrays = read_arrays("CIFAR10", root=str(tmp_path))
    assert np.array_equal(arrays.features, pixels) and arrays.targets.tolist() == [0, 1, 2, 3, 4, 5]
    assert arrays.given["test"].tolist() == [5] and arrays.class_names == names


@pytest.mark.parametrize("name", ["mnist", *IN_MEMORY])
def test_files_that_are_absent_are_said_with_what_fetches_them(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"can't be read there .*get it once: python -c 'import .*download=True\)"
    ) as caught:
        datasets.create(name, root=str(tmp_path))
    assert str(caught.value).startswith(f"{tmp_path}: torchvision's ") and "\n" not in str(caught.value)


def test_a_root_that_is_absent_and_a_misspelt_name_are_said() -> None:
    with pytest.raises(UserError, match=r"root of dataset 'CIFAR10' must be .* a file or folder that exists"):
        datasets.check("CIFAR10", {"root": "nowhere"})
    with pytest.raises(UserError, match="unknown dataset 'CIFAR-10'; did you mean 'CIFAR10'"):
        datasets.entry("CIFAR-10")


def test_given_rows_are_the_part_and_the_rest_is_split() -> None:
    from aibig.data.arrays import Arrays

    given: dict[str, Any] = {"test": np.array([7, 3, 5])}
    arrays = Arrays(np.arange(20.0)[:, None], np.arange(20) % 2, ["even", "odd"], given=given)
    parts = ArrayData(arrays, scaling="none", validation_fraction=0.25).parts
    rows = {name: sorted(features.flatten().int().tolist()) for name, (features, _) in parts.items()}
    assert rows["test"] == [3, 5, 7] and len(rows["validation"]) == 4 and len(rows["train"]) == 13
    assert sorted(row for part in rows.values() for row in part) == list(range(20))
