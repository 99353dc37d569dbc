"""Images in folders: listed, decoded in every format, cropped as torchvision does, named when damaged."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from aibig.config.registry import datasets
from aibig.data.images import decoding
from aibig.data.images.decoding import random_box, read_image
from aibig.data.images.image_folder import ImageData, image_folder
from aibig.errors import UserError


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """An image with smooth and sharp regions, as photographs have."""
    generator = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 3))
    for cells in (3, 12, 48):
        small = Image.fromarray(generator.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        pixels += np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), float) / cells**0.5
    return Image.fromarray((pixels * 255 / pixels.max()).astype(np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two classes, red and blue, of 12 images each."""
    for name, colour in (("red", (200, 30, 30)), ("blue", (30, 30, 200))):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (30 + number, 24), colour).save(tmp_path / "images" / name / f"{number:02}.png")
    return tmp_path / "images"


def difference(image: torch.Tensor, reference: Any) -> float:
    """Mean absolute difference over all pixels, in levels of 255."""
    return (image.float() - torch.as_tensor(np.asarray(reference)).float()).abs().mean().item()


# ---------------------------------------------------------------- pixels


def test_the_middle_is_what_torchvisions_resize_and_centre_crop_give(tmp_path: Path) -> None:
    for width, height in ((300, 200), (200, 301), (90, 64), (40, 50)):
        image = photograph(width, height)
        image.save(tmp_path / "x.png")
        reference = v2.functional.pil_to_tensor(v2.Compose([v2.Resize(64), v2.CenterCrop(64)])(image))
        pixels = read_image(tmp_path / "x.png", 64, 3)
        assert pixels.shape == (3, 64, 64) and pixels.dtype == torch.uint8
        assert difference(pixels, reference) < 2


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_training_crop_is_torchvisions_resized_crop_of_the_same_box(suffix: str, tmp_path: Path) -> None:
    photograph(150, 110).save(tmp_path / f"x.{suffix}", quality=90)
    uncropped = v2.functional.pil_to_tensor(Image.open(tmp_path / f"x.{suffix}").convert("RGB"))
    mirrored = 0
    for seed in range(20):
        generators = [torch.Generator().manual_seed(seed) for _ in range(2)]
        left, top, width, height = random_box(150, 110, 0.3, generators[0])
        expected = v2.functional.resized_crop(uncropped, top, left, height, width, [80, 80], antialias=True)
        if torch.rand((), generator=generators[0]) < 0.5:
            mirrored, expected = mirrored + 1, expected.flip(2)
        crop = read_image(tmp_path / f"x.{suffix}", 80, 3, generator=generators[1], smallest_crop=0.3, flip=True)
        assert torch.equal(crop, expected)
    assert 0 < mirrored < 20


def test_random_boxes_are_spread_as_torchvisions() -> None:
    def moments(boxes: list[tuple[int, ...]]) -> torch.Tensor:
        area = torch.tensor([width * height / (400 * 300) for _, _, width, height in boxes])
        aspect = torch.tensor([width / height for _, _, width, height in boxes])
        position = torch.tensor([[left / 400, top / 300] for left, top, _, _ in boxes]).mean(0)
        return torch.cat([torch.stack([area.mean(), area.std(), aspect.mean(), aspect.std()]), position])

    generator = torch.Generator().manual_seed(0)
    ours = [random_box(400, 300, 0.08, generator) for _ in range(4000)]
    assert all(x >= 0 and y >= 0 and x + w <= 400 and y + h <= 300 for x, y, w, h in ours)
    torch.manual_seed(0)
    image = torch.empty(3, 300, 400)
    crops = [v2.RandomResizedCrop.make_params(v2.RandomResizedCrop(8), [image]) for _ in range(4000)]
    theirs = [(crop["left"], crop["top"], crop["width"], crop["height"]) for crop in crops]
    torch.testing.assert_close(moments(ours), moments(theirs), atol=0.02, rtol=0)


def test_a_large_jpeg_decoded_at_a_smaller_scale_is_nearly_the_same(tmp_path: Path) -> None:
    photograph(1200, 900).save(tmp_path / "x.jpg", quality=90)
    Image.open(tmp_path / "x.jpg").save(tmp_path / "x.png")  # which is decoded at full size
    for size in (60, 100, 224, 400):
        assert difference(*(read_image(tmp_path / name, size, 3) for name in ("x.jpg", "x.png"))) < 2


def test_pixels_do_not_depend_on_whether_torchvision_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photograph(120, 90).save(tmp_path / "x.jpg", quality=90)
    photograph(120, 90).convert("L").save(tmp_path / "grey.jpg", quality=90)
    with_it = [read_image(tmp_path / "x.jpg", 64, 3), read_image(tmp_path / "grey.jpg", 64, 1)]
    assert decoding._jpeg_decoder() is not None
    monkeypatch.setattr(decoding, "_jpeg_decoder", lambda: None)
    without = [read_image(tmp_path / "x.jpg", 64, 3), read_image(tmp_path / "grey.jpg", 64, 1)]
    assert all(map(torch.equal, with_it, without))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "colour"),
    [
        *(("L.png", 100), ("L.jpg", 100), ("1.png", 255), ("LA.png", 100), ("RGB.bmp", 100), ("RGB.webp", 100)),
        *(("RGBA.png", 100), ("P.png", 100), ("P.gif", 100), ("I;16.png", 100), ("I;16.tif", 100), ("CMYK.jpg", 100)),
        *(("CMYK.tif", 100), ("transparent.png", 255), ("half.png", 178), ("palette_transparent.png", 255)),
    ],
)
def test_every_format_becomes_bytes(name: str, colour: int, channels: int, tmp_path: Path) -> None:
    grey = Image.new("L", (20, 20), 100)
    mode = name.partition(".")[0]
    images = {
        "1": Image.new("1", (20, 20), 1),
        "I;16": Image.fromarray(np.full((20, 20), 100 * 256 + 37, np.uint16)),
        "transparent": Image.new("RGBA", (20, 20), (100, 100, 100, 0)),
        "half": Image.new("RGBA", (20, 20), (100, 100, 100, 127)),
        "P": grey.convert("P"),
        "palette_transparent": grey.convert("P"),
    }
    image = images.get(mode) or grey.convert("RGB").convert(mode)
    extra = {"transparency": image.getpixel((0, 0))} if mode == "palette_transparent" else {}
    image.save(tmp_path / name, **extra)
    pixels = read_image(tmp_path / name, 16, channels)
    assert pixels.shape == (channels, 16, 16)
    assert (pixels.float() - colour).abs().max() <= 3, pixels.unique()


@pytest.mark.parametrize("size", [8, 300])  # decoded at a smaller scale, and at full size
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright_whatever_their_orientation_tag(orientation: int, size: int, tmp_path: Path) -> None:
    upright = Image.new("RGB", (400, 320), "black")
    upright.paste("white", (0, 0, 200, 160))  # the upper left quarter
    inverse = {1: [], 2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}[orientation]
    stored = upright
    for turn in inverse:
        stored = stored.transpose(Image.Transpose(turn))
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = orientation
    stored.save(tmp_path / "x.jpg", exif=exif, quality=95)
    grey = read_image(tmp_path / "x.jpg", size, 3).float().mean(0)
    half = size // 2
    quarters = [grey[:half, :half], grey[:half, half:], grey[half:, :half], grey[half:, half:]]
    assert [quarter.mean() > 128 for quarter in quarters] == [True, False, False, False]


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp"])
def test_a_truncated_image_is_named(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    photograph(200, 150).save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    for size in (150, 20):
        with pytest.raises(
            UserError, match=rf"^{path}: is not an image that can be read \(.+\); repair or replace it$"
        ):
            read_image(path, size, 3)


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff"])
def test_a_file_that_is_no_image_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.jpg: is not an image that can be read \(of no format that Pillow knows\)"):
        read_image(tmp_path / "x.jpg", 8, 3)
    with pytest.raises(UserError, match=r"y\.jpg: is not an image that can be read \(No such file or directory\)"):
        read_image(tmp_path / "y.jpg", 8, 3)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged tags
def test_garbled_bytes_are_read_or_named_and_nothing_else(tmp_path: Path) -> None:
    generator = random.Random(0)
    for format in ("JPEG", "PNG", "TIFF"):
        buffer = io.BytesIO()
        photograph(60, 50).save(buffer, format)
        for _ in range(40):
            data = bytearray(buffer.getvalue())
            for _ in range(20):
                data[generator.randrange(len(data))] = generator.randrange(256)
            (tmp_path / "x").write_bytes(data)
            try:
                assert read_image(tmp_path / "x", 16, 3).shape == (3, 16, 16)
            except UserError as error:
                assert "\n" not in str(error)


# ---------------------------------------------------------------- folders


def test_a_folder_is_listed_in_order_without_hidden_files(folder: Path) -> None:
    (folder / ".cache").mkdir()
    (folder / "red" / ".hidden.png").write_bytes(b"")
    (folder / "red" / "notes.txt").write_text("no image")
    (folder / "red" / "more").mkdir()
    Image.new("RGB", (9, 9)).save(folder / "red" / "more" / "deep.JPG", "JPEG")
    files = image_folder(path=str(folder))
    names = [str(path.relative_to(folder)) for path in files.paths]
    assert files.class_names == ["blue", "red"] and len(names) == 25
    assert names == sorted(names) and "red/more/deep.JPG" in names
    assert [files.class_names[target] for target in files.targets] == [Path(name).parts[0] for name in names]


def test_folders_of_splits_are_the_splits(folder: Path) -> None:
    for split, count in (("train", 12), ("val", 3), ("test", 2)):
        for name in ("red", "blue"):
            for file in sorted((folder / name).iterdir())[:count]:
                target = folder.parent / "split" / split / name / file.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
    data = ImageData(image_folder(path=str(folder.parent / "split")), image_size=8)
    assert {name: len(rows) for name, rows in data.splits.items()} == {"train": 24, "validation": 6, "test": 4}
    assert {data.samples.paths[row].parts[-3] for row in data.splits["validation"]} == {"val"}
    (folder.parent / "split" / "val" / "green").mkdir()
    with pytest.raises(UserError, match=r"val/green: is no class of .*train; add it there or remove it here"):
        image_folder(path=str(folder.parent / "split"))
    (folder.parent / "split" / "other").mkdir()
    with pytest.raises(UserError, match="split/other: is no split"):
        image_folder(path=str(folder.parent / "split"))


def test_folders_that_cannot_be_learnt_from_are_named(folder: Path, tmp_path: Path) -> None:
    (folder / "green").mkdir()
    with pytest.raises(UserError, match=r"images/green: has no images \(\.bmp, .*\); add some, or remove the folder"):
        image_folder(path=str(folder))
    with pytest.raises(UserError, match="green: has no folders in it; give one with a folder of images for each class"):
        image_folder(path=str(folder / "green"))
    with pytest.raises(UserError, match=r"00\.png: is no folder"):
        image_folder(path=str(folder / "red" / "00.png"))


def test_a_batch_is_the_scaled_pixels_of_its_files(folder: Path) -> None:
    data = datasets.create("image_folder", path=str(folder), image_size=8, batch_size=6, scaling="range", flip=False)
    assert data.model_settings() == {"in_features": 192, "in_channels": 3, "image_size": 8}
    (features,), targets, _ = data.training_batches(0, 0, 1).next()
    expected = torch.tensor([[30, 30, 200], [200, 30, 30]])[targets] / 255  # blue, red
    torch.testing.assert_close(features, expected[:, :, None, None].expand(6, 3, 8, 8))
    standard = ImageData(image_folder(path=str(folder)), image_size=8)
    scaled = torch.cat([inputs[0] for inputs, _ in standard.evaluation_batches("train")])
    torch.testing.assert_close(scaled.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled[:, ::2].std((0, 2, 3), correction=0), torch.ones(2), atol=1e-4, rtol=0)
    grey = ImageData(image_folder(path=str(folder)), image_size=8, channels=1)
    assert grey.sample_shape == [1, 8, 8]
    imagenet = ImageData(image_folder(path=str(folder)), image_size=8, scaling="imagenet")
    batch, targets = next(imagenet.evaluation_batches("test"))
    reference = v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])(
        torch.tensor([200, 30, 30]).view(3, 1, 1) / 255
    )
    torch.testing.assert_close(batch[0][targets == 1][0], reference.expand(3, 8, 8))
    with pytest.raises(UserError, match="scaling 'imagenet' is of 3 channels"):
        ImageData(image_folder(path=str(folder)), image_size=8, channels=1, scaling="imagenet")


def test_repairing_a_file_lets_a_run_go_on_and_moving_one_does_not(folder: Path) -> None:
    def fingerprint(path: Path) -> str:
        return ImageData(image_folder(path=str(path)), image_size=8, test_fraction=0, validation_fraction=0).fingerprint

    before = fingerprint(folder)
    Image.new("RGB", (9, 9)).save(folder / "red" / "03.png")
    assert fingerprint(folder) == before
    moved = folder.rename(folder.parent / "elsewhere")
    assert fingerprint(moved) == before
    (moved / "red" / "03.png").rename(moved / "blue" / "13.png")
    assert fingerprint(moved) != before


def test_a_class_of_one_image_can_be_split_at_random(tmp_path: Path) -> None:
    for name in ["a/1.png", "a/2.png", "a/3.png", "a/4.png", "a/5.png", "b/1.png"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    with pytest.raises(UserError, match=r"class 'b' has 1 row.*set data.split=random"):
        ImageData(image_folder(path=str(tmp_path)), image_size=8)
    splits = ImageData(image_folder(path=str(tmp_path)), image_size=8, split="random").splits
    assert sorted(row for rows in splits.values() for row in rows.tolist()) == [*range(6)]
