"""Images are predicted from a model folder alone as the task predicts them."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import aibig
from aibig.cli import main
from aibig.errors import UserError
from aibig.inference.predictor import load_predictor

CONFIG: dict[str, Any] = {
    "model": {"name": "net", "hidden": 8},
    "task": {"name": "classification"},
    "data": {"name": "image_folder", "path": "images", "image_size": 8, "batch_size": 8, "smallest_crop": 0.5},
    "optimizer": {"name": "adamw", "lr": 1e-2},
    "trainer": {"max_steps": 40, "threads": 1},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images/ of two classes, nearly red and nearly blue, and model/ of a net that tells them apart."""
    home = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for number in range(60):
        name = ("blue", "red")[number % 2]
        pixels = generator.normal(90, 60, (12, 14, 3)) + np.eye(3)[0 if name == "red" else 2] * 60
        path = home / "images" / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        run = aibig.train(CONFIG, out=home / "run")
    assert run.result is not None and run.result["metrics"]["accuracy"] > 0.8
    shutil.move(run.path / "model", home / "model")
    return home


def test_predictions_of_a_folder_are_those_of_evaluation(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = load_predictor(home / "model")
    probabilities, targets = predictor.predictions_and_targets(home / "images")
    rows = list(predictor.predict_file(home / "images"))
    assert [Path(row["file"]).parent.name for row in rows] == [("blue", "red")[target] for target in targets]
    assert [row["red"] for row in rows] == pytest.approx(probabilities[:, 1].tolist())
    assert (probabilities.argmax(1) == targets).mean() > 0.8
    monkeypatch.chdir(home)
    shutil.copytree(home / "model", home / "run" / "model", dirs_exist_ok=True)
    from aibig.config.run_config import load_config
    from aibig.runs.train import build

    _, task = build(load_config(home / "run" / "config.yaml"))
    task.model.load_state_dict(aibig.load_model(home / "model").state_dict())
    outputs, its_targets = task.predict("test")  # type: ignore[attr-defined]
    chosen = task.data.splits["test"].tolist()  # type: ignore[attr-defined]
    assert its_targets.tolist() == targets[chosen].tolist()
    assert outputs.softmax(2).mean(0).numpy() == pytest.approx(probabilities[chosen], abs=1e-5)


def test_the_command_writes_a_line_for_each_image(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = home / "images" / "red" / "1.png"
    assert main(["predict", str(home / "model"), str(file)]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["file"] == str(file) and row["label"] == "red" and float(row["red"]) + float(row["blue"]) > 0.999
    assert main(["predict", str(home / "model"), str(home / "images"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 60


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("empty", "empty: has no images"),
        ("notes.txt", r"notes\.txt: is not an image"),
        ("nowhere.png", "No such file"),
    ],
)
def test_a_file_that_is_no_image_is_named(name: str, complaint: str, home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(UserError, match=complaint):
        list(load_predictor(home / "model").predict_file(tmp_path / name))


def test_a_class_that_the_model_does_not_know_is_named(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "images" / "red", tmp_path / "more" / "green")
    with pytest.raises(
        UserError, match=r"more: a class is 'green', which is none of the classes of training \(blue, red\)"
    ):
        load_predictor(home / "model").predictions_and_targets(tmp_path / "more")


def test_a_model_of_images_in_memory_takes_image_files_and_rows(real_data: Path, tmp_path: Path) -> None:
    config = {**CONFIG, "data": {"name": "mnist", "root": str(real_data)}, "optimizer": {"name": "adam"}}
    run = aibig.train(config, {"trainer.max_steps": 300}, out=tmp_path / "run")
    predictor = load_predictor(run.path)
    from aibig.data.images.torchvision_datasets import mnist

    arrays = mnist(root=str(real_data))
    pixels = arrays.features[-200:]
    for name in ("images", "wide"):
        (tmp_path / name).mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image[0]).save(tmp_path / "images" / f"{number:03}.png")
    np.save(tmp_path / "x.npy", pixels)
    np.save(tmp_path / "flat.npy", pixels.reshape(200, 784))
    labels = [
        [row["label"] for row in predictor.predict_file(tmp_path / name)] for name in ("images", "x.npy", "flat.npy")
    ]
    assert labels[0] == labels[1] == labels[2]
    assert np.mean([int(label) for label in labels[0]] == arrays.targets[-200:]) > 0.7
    Image.fromarray(pixels[0, 0]).resize((140, 112)).convert("RGB").save(tmp_path / "wide" / "large.jpg")
    assert len(list(predictor.predict_file(tmp_path / "wide"))) == 1
