"""torchvision's models by their own names: the table is true, first and last layers fit, weights are loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_resume import assert_same_run
from torch import nn

import aibig
from aibig.config.registry import models
from aibig.layers.utils.meta import ParametersOnMeta
from aibig.models.torchvision_models import first_conv
from aibig.models.torchvision_table import ARCHITECTURES, Architecture, rows
from aibig.vision import import_torchvision

SMALL = {  # name -> pixels a side
    "squeezenet1_1": 32,
    "shufflenet_v2_x0_5": 32,
    "mobilenet_v3_small": 32,
    "mnasnet0_5": 32,
    "resnet18": 32,
    "vit_b_32": 64,
}


def test_the_table_has_the_names_that_torchvision_has() -> None:
    torchvision = import_torchvision()
    assert sorted(rows()) == torchvision.models.list_models(module=torchvision.models)
    assert set(aibig.list_models("resnet*", family="nets")) >= {"resnet18", "resnet152"}
    assert set(aibig.list_models()) == {*models.names(), *rows()}


@pytest.mark.parametrize("name", rows())
def test_every_models_first_and_last_layer_fit(name: str) -> None:
    with ParametersOnMeta():
        model = aibig.create_model(name, num_classes=7, in_channels=2)
    entry = models.entry(name)
    layers = [path for path, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    assert entry.head == layers[-1]
    assert len(model.get_submodule(entry.head).weight) == 7
    assert first_conv(model)[1].weight.shape[1] == 2 and first_conv(model)[0] == layers[0]
    paths = [*entry.depth_order, entry.head]
    counted = {id(parameter) for path in paths for parameter in model.get_submodule(path).parameters()}
    left_out = [key for key, parameter in model.named_parameters() if id(parameter) not in counted]
    # norms before the head, the tokens of vision transformers, and the head's own norms
    assert sum(model.get_parameter(key).ndim >= 2 for key in left_out) <= 2, left_out
    assert not any("aux" in key.lower() for key in model.state_dict())


@pytest.mark.parametrize("facts", ARCHITECTURES, ids=lambda facts: facts.names[0])
def test_the_table_knows_which_take_dropout(facts: Architecture) -> None:
    name = facts.names[0]
    if not facts.takes_dropout:
        with pytest.raises(aibig.UserError, match=f"{name} has no dropout"):
            aibig.create_model(name, dropout=0.37)
        return
    with ParametersOnMeta():
        model = aibig.create_model(name, dropout=0.37)
    assert any(module.p == 0.37 for module in model.modules() if isinstance(module, nn.Dropout))


@pytest.mark.parametrize("name", SMALL)
def test_small_models_learn_save_and_load(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    size = SMALL[name]
    model = aibig.create_model(name, num_classes=5, in_channels=1, image_size=size)
    images = torch.randn(3, 1, size, size)
    model(images).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    aibig.save_model(model.eval(), tmp_path / "model")
    assert torch.equal(aibig.load_model(tmp_path / "model")(images), model(images))


def test_names_and_settings_are_checked_and_a_misspelt_name_costs_no_torch(tmp_path: Path) -> None:
    code = """
import sys, aibig
for model in ({"name": "resnet81"}, {"name": "resnet18", "num_clases": 3}, {"name": "resnet18", "in_channels": 0}):
    try:
        aibig.load_config({"model": model, "task": {"name": "classification"}, "data": {"name": "digits"}})
    except aibig.UserError as error:
        print(sorted({"torch", "torchvision"} & set(sys.modules)), error)
aibig.load_config({"model": {"name": "resnet18"}, "task": {"name": "classification"}, "data": {"name": "digits"}})
print("torchvision" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    name, setting, value, imported = done.stdout.splitlines()
    assert name.startswith("[] ") and "unknown model 'resnet81'; did you mean 'resnet18'" in name
    assert "unknown setting; did you mean 'num_classes'" in setting
    assert "in_channels: must be a whole number, at least 1" in value
    assert imported == "False"


@pytest.mark.parametrize(
    ("name", "settings", "complaint"),
    [
        ("alexnet", {"image_size": 28}, "alexnet takes images of at least 63x63 pixels, not 28x28"),
        ("vit_b_16", {"image_size": 30}, "vit_b_16 can't be built for images of 30x30 pixels: Input shape"),
        ("resnet18", {"weights": "IMAGENET1K_V3"}, "nor weights of resnet18; did you mean 'IMAGENET1K_V1'"),
        ("resnet18", {"weights": "nowhere.pth"}, "nowhere.pth: no such file of weights"),
    ],
)
def test_mistakes_are_named(name: str, settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(aibig.UserError, match=complaint):
        aibig.create_model(name, **settings)


# ---------------------------------------------------------------- pretrained weights


def pretrained(path: Path, name: str = "squeezenet1_1", **settings: Any) -> nn.Module:
    """A model "trained" elsewhere, its state_dict in the file `path`."""
    torch.manual_seed(1)
    model = import_torchvision().models.get_model(name, weights=None, **settings).eval()
    torch.save(model.state_dict(), path)
    return model


def test_first_and_last_layers_are_adapted_and_reported(tmp_path: Path) -> None:
    other = pretrained(tmp_path / "x.pth", num_classes=6)
    model = aibig.create_model("squeezenet1_1", in_channels=1, num_classes=4, weights=str(tmp_path / "x.pth")).eval()
    assert model.adapted == [
        f"squeezenet1_1: 50 of 52 tensors loaded from {tmp_path / 'x.pth'}; features.0.weight adapted to 1 "
        "instead of 3 channels; classifier.1 newly initialised for 4 instead of 6 classes"
    ]
    grey = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(model.features(grey), other.features(grey.expand(-1, 3, -1, -1)))
    six = aibig.create_model("squeezenet1_1", in_channels=6, weights=str(tmp_path / "x.pth")).eval()
    colour = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(six.features(colour.repeat(1, 2, 1, 1)), other.features(colour))
    same = aibig.create_model("squeezenet1_1", num_classes=6, weights=str(tmp_path / "x.pth")).eval()
    assert torch.equal(same(colour), other(colour)) and "instead" not in same.adapted[0]


def test_new_channels_keep_the_scale_of_what_follows() -> None:
    torch.manual_seed(0)
    colour, many = (aibig.create_model("resnet18", in_channels=channels).conv1 for channels in (3, 12))
    images = torch.randn(8, 12, 32, 32)
    assert many(images).std().item() == pytest.approx(colour(images[:, :3]).std().item(), rel=0.1)


@pytest.mark.parametrize("name", ["squeezenet1_1", "googlenet"])
def test_torchvisions_own_weights_come_by_its_hub(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    entry = import_torchvision().models.get_model_weights(name).DEFAULT
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)  # as if it had been downloaded before
    extra = {"init_weights": False} if name == "googlenet" else {}  # whose file holds auxiliary heads
    other = pretrained(tmp_path / "hub" / "checkpoints" / entry.url.rpartition("/")[2], name, **extra)
    model = aibig.create_model(name, num_classes=3, weights="DEFAULT")
    assert "loaded from DEFAULT" in model.adapted[0] and "aux" not in model.adapted[0]
    path, conv = first_conv(other)
    assert torch.equal(model.get_submodule(path).weight, conv.weight)


def test_positions_are_interpolated(tmp_path: Path) -> None:
    other = pretrained(tmp_path / "vit.pth", "vit_b_32", image_size=64)
    state = {key.replace("mlp.0.", "mlp.linear_1."): value for key, value in other.state_dict().items()}
    torch.save(state, tmp_path / "vit.pth")  # named as in the files on torchvision's server
    model = aibig.create_model("vit_b_32", image_size=96, weights=str(tmp_path / "vit.pth"))
    assert "encoder.pos_embedding interpolated to 96x96 pixels" in model.adapted[0]
    assert model(torch.randn(1, 3, 96, 96)).shape == (1, 1000)


def test_weights_of_something_else_are_refused_in_a_line(tmp_path: Path) -> None:
    pretrained(tmp_path / "other.pth", "shufflenet_v2_x0_5")
    torch.save({"model": {}, "epoch": 3}, tmp_path / "checkpoint.pth")
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")  # a pickled class: reading it would run code
    (tmp_path / "cut.safetensors").write_bytes(b"abc")
    for file, complaint in {
        "other.pth": "other.pth: is not of squeezenet1_1: missing key 'features.0.weight'",
        "checkpoint.pth": r"checkpoint.pth: holds no state_dict \(model, epoch\)",
        "module.pth": "module.pth: can't be read as weights",
        "cut.safetensors": "cut.safetensors: can't be read as weights",
    }.items():
        with pytest.raises(aibig.UserError, match=complaint) as caught:
            aibig.create_model("squeezenet1_1", weights=str(tmp_path / file))
        assert len(str(caught.value).splitlines()) == 1


def test_a_run_needs_its_first_weights_only_once(
    image_config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrained(tmp_path / "x.pth", "shufflenet_v2_x0_5")
    model = {"name": "shufflenet_v2_x0_5", "in_channels": 1, "weights": str(tmp_path / "x.pth")}
    config = {**image_config, "model": model}
    aibig.train(config, out=tmp_path / "whole")
    assert capsys.readouterr().err.startswith("shufflenet_v2_x0_5: ")
    aibig.train(config, {"trainer.max_steps": 3}, out=tmp_path / "parts")
    (tmp_path / "x.pth").unlink()
    assert aibig.train(config, out=tmp_path / "parts", resume=True).result is not None
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert "weights" not in json.loads((tmp_path / "parts/model/model.json").read_text())["settings"]
    aibig.load_model(tmp_path / "parts")
    aibig.evaluate(tmp_path / "parts")
    with pytest.raises(aibig.UserError, match=r"x\.pth: no such file"):
        aibig.train(config, out=tmp_path / "new")
