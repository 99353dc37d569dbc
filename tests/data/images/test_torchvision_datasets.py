"""Torchvision's datasets: every name is one of theirs, and each keeps its own splits."""

from __future__ import annotations

import pickle
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aibig.config.registry import datasets
from aibig.data.arrays import ArrayData
from aibig.data.images import torchvision_datasets as vision_datasets
from aibig.data.images.torchvision_datasets import read_arrays
from aibig.data.images.torchvision_table import IN_FILES, IN_MEMORY
from aibig.errors import UserError

NOT_CLASSIFICATION = {  # detection, segmentation, captions, pairs, attributes, flow, stereo, video, or the user's own
    *("CarlaStereo", "CelebA", "Cityscapes", "CocoCaptions", "CocoDetection", "CREStereo", "DatasetFolder"),
    *("ETH3DStereo", "FakeData", "FallingThingsStereo", "Flickr30k", "Flickr8k", "FlyingChairs", "FlyingThings3D"),
    *("HD1K", "HMDB51", "ImageFolder", "InStereo2k", "Kinetics", "Kitti", "Kitti2012Stereo", "Kitti2015Stereo"),
    *("KittiFlow", "LFWPairs", "LSUN", "LSUNClass", "Middlebury2014Stereo", "MovingMNIST", "PhotoTour", "SBDataset"),
    *("SBU", "SceneFlowStereo", "Sintel", "SintelStereo", "UCF101", "VOCDetection", "VOCSegmentation", "VisionDataset"),
    *("WIDERFace", "wrap_dataset_for_transforms_v2"),
}
LEFT_OUT = {  # of classes, but in forms that take more than a table of splits
    *("CLEVRClassification", "FER2013", "INaturalist", "LFWPeople", "Omniglot", "PCAM", "Places365"),
}


def test_every_name_is_torchvisions_and_its_splits_are_arguments_of_its_class() -> None:
    import inspect

    import torchvision.datasets as theirs

    for name, splits in {**IN_MEMORY, **IN_FILES}.items():
        assert name in theirs.__all__
        known = inspect.signature(getattr(theirs, name)).parameters
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
        assert takes_any or {key for arguments in splits.values() for key in arguments} <= set(known), name
        assert "root" in datasets.settings(name)
    assert {*theirs.__all__} == {*IN_MEMORY, *IN_FILES, *NOT_CLASSIFICATION, *LEFT_OUT}


def test_mnist_keeps_its_own_test_split(real_data: Path) -> None:
    data = datasets.create("mnist", root=str(real_data), validation_fraction=0.1)
    assert {name: len(targets) for name, (_, targets) in data.splits.items()} == {
        **{"train": 54_000, "test": 10_000, "validation": 6_000}
    }
    images, targets = data.splits["test"]
    assert images.dtype == torch.uint8 and data.sample_shape == [1, 28, 28]
    assert targets[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]  # as the file of the test split begins
    assert data.class_names == [str(digit) for digit in range(10)]
    assert data.model_settings() == {"in_features": 784, "in_channels": 1, "image_size": 28}
    features, _ = data.training_rows(torch.arange(5000))
    assert abs(features.mean().item()) < 0.05 and abs(features.std().item() - 1) < 0.05


def test_colour_images_come_channels_first(tmp_path: Path) -> None:
    """CIFAR10's files, as they are, but with few images; its checksums aside."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    for number, file in enumerate([*(f"data_batch_{batch}" for batch in range(1, 6)), "test_batch"]):
        (folder / file).write_bytes(pickle.dumps({"data": pixels[number].reshape(1, -1), "labels": [number]}))
    names = [f"class {number}" for number in range(10)]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
        arrays = read_arrays("CIFAR10", root=str(tmp_path))
    assert np.array_equal(arrays.features, pixels) and arrays.targets.tolist() == [0, 1, 2, 3, 4, 5]
    assert arrays.predefined_splits["test"].tolist() == [5] and arrays.class_names == names


@pytest.mark.parametrize("name", ["mnist", *IN_MEMORY, *IN_FILES])
def test_absent_files_are_named_with_what_fetches_them(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        datasets.create(name, root=str(tmp_path))
    error = str(caught.value)
    assert error.startswith(f"{tmp_path}: torchvision's ") and "can't be read there (" in error and "\n" not in error
    if name == "ImageNet":  # which torchvision can't download
        assert error.endswith("as torchvision's help tells")
        return
    command = shlex.split(error.partition("get them once: ")[2])
    assert command[:2] == ["python", "-c"] and command[2].endswith(", download=True)")
    compile(command[2], "command", "exec")


def test_an_absent_root_and_a_misspelt_name_are_refused() -> None:
    with pytest.raises(UserError, match=r"root of dataset 'CIFAR10' must be .* a file or folder that exists"):
        datasets.check("CIFAR10", {"root": "nowhere"})
    with pytest.raises(UserError, match="unknown dataset 'CIFAR-10'; did you mean 'CIFAR10'"):
        datasets.entry("CIFAR-10")


def test_predefined_rows_are_the_split_and_the_rest_is_divided() -> None:
    from aibig.data.arrays import Arrays

    predefined: dict[str, Any] = {"test": np.array([7, 3, 5])}
    arrays = Arrays(np.arange(20.0)[:, None], np.arange(20) % 2, ["even", "odd"], predefined_splits=predefined)
    splits = ArrayData(arrays, scaling="none", validation_fraction=0.25).splits
    rows = {name: sorted(features.flatten().int().tolist()) for name, (features, _) in splits.items()}
    assert rows["test"] == [3, 5, 7] and len(rows["validation"]) == 4 and len(rows["train"]) == 13
    assert sorted(row for split in rows.values() for row in split) == list(range(20))


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 16), (len(path.stem) * 10, 0, 0)).save(path)


def write_lines(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def test_datasets_in_files_keep_their_splits_and_decode_nothing(tmp_path: Path) -> None:
    """The folders that torchvision's downloads make, with few and blank images."""
    for kind in ("banded", "dotted"):
        for number in range(9):
            write_image(tmp_path / "dtd" / "dtd" / "images" / kind / f"{kind}_{number}.jpg")
    for split, numbers in (("train", range(5)), ("val", range(5, 7)), ("test", range(7, 9))):
        files = [f"{kind}/{kind}_{number}.jpg" for kind in ("banded", "dotted") for number in numbers]
        write_lines(tmp_path / "dtd" / "dtd" / "labels" / f"{split}1.txt", *files)
    for number in range(6):
        write_image(tmp_path / "oxford-iiit-pet" / "images" / f"great_dane_{number}.jpg")
        write_image(tmp_path / "gtsrb" / "GTSRB" / "Training" / f"{number % 2:05}" / f"{number}.ppm")
        write_image(tmp_path / "gtsrb" / "GTSRB" / "Final_Test" / "Images" / f"{number}.ppm")
        for name in ("ants", "zebra"):
            write_image(tmp_path / "caltech101" / "101_ObjectCategories" / name / f"image_{number + 1:04}.jpg")
            write_image(tmp_path / "eurosat" / "2750" / name / f"{number}.jpg")
    for split, numbers in (("trainval", range(4)), ("test", range(4, 6))):
        lines = [f"great_dane_{number} {1 + number % 2} 1 1" for number in numbers]
        write_lines(tmp_path / "oxford-iiit-pet" / "annotations" / f"{split}.txt", *lines)
    lines = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    write_lines(
        tmp_path / "gtsrb" / "GT-final_test.csv", *lines, *(f"{number}.ppm;1;1;1;1;1;1;1" for number in range(6))
    )
    (tmp_path / "caltech101" / "101_ObjectCategories" / "BACKGROUND_Google").mkdir()  # which torchvision leaves out
    (tmp_path / "caltech101" / "Annotations" / "ants").mkdir(parents=True)
    (tmp_path / "caltech101" / "Annotations" / "zebra").mkdir()

    counts = {}
    for name in ("DTD", "OxfordIIITPet", "GTSRB", "Caltech101", "EuroSAT"):
        files = getattr(vision_datasets, name)(root=str(tmp_path))
        assert all(path.is_file() for path in files.paths) and len({*files.paths}) == len(files.paths) == len(
            files.targets
        )
        assert {*files.targets} == {0, 1} and len(files.class_names) >= 2
        counts[name] = (len(files.paths), {split: len(rows) for split, rows in files.predefined_splits.items()})
    assert counts == {
        "DTD": (18, {"validation": 4, "test": 4}),
        "OxfordIIITPet": (6, {"test": 2}),
        "GTSRB": (12, {"test": 6}),
        "Caltech101": (12, {}),
        "EuroSAT": (12, {}),
    }
    data = datasets.create("DTD", root=str(tmp_path), image_size=8)
    assert {data.samples.paths[row].name for row in data.splits["test"]} == {
        f"{kind}_{number}.jpg" for kind in ("banded", "dotted") for number in (7, 8)
    }
    assert data.class_names == ["banded", "dotted"] and data.sample_shape == [3, 8, 8]
