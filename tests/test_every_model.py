"""Every registered model, whatever it is: made, run, differentiated, saved and loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import aibig
from aibig.config.registry import models
from aibig.config.settings import REQUIRED
from aibig.layers.q.noisy import reset_noise, set_noise_enabled
from aibig.layers.q.value_head import ValueHead

NEEDED = {"vocab_size": 11}  # what a model may need that has no default
TINY = {"vocab_size": 11, "width": 16, "layers": 2, "heads": 4, "context": 8}  # what may stand in place of a size
# no blocks of their own: they belong to the block before
BESIDE = {"position_embedding", "token_type_embedding", "transform", "pooler"}


def make(name: str) -> Any:
    torch.manual_seed(0)
    settings = models.settings(name)
    if {"size", "feed_forward"} & settings.keys():
        return aibig.create_model(name, **TINY)
    required = [key for key, setting in settings.items() if setting.default is REQUIRED]
    return aibig.create_model(name, **{key: NEEDED[key] for key in required})


def inputs(name: str, model: Any) -> torch.Tensor:
    if models.entry(name).family == "language":
        return torch.randint(11, (3, 7))
    settings = model.registered["settings"]
    if "shape" in settings:
        return torch.randint(256, (3, *settings["shape"]), dtype=torch.uint8)
    if "in_channels" in settings:
        return torch.randn(3, settings["in_channels"], 28, 28)
    return torch.randn(3, settings["in_features"])


def outputs(result: Any) -> torch.Tensor:
    return result[0] if isinstance(result, tuple) else result


@pytest.mark.parametrize("name", models.names())
def test_gradients_reach_every_parameter(name: str) -> None:
    model = make(name)
    set_noise_enabled(model, True)
    reset_noise(model, torch.Generator().manual_seed(0))
    for parameter in model.parameters():
        if not parameter.any():  # a head that begins at zero lets nothing through yet
            torch.nn.init.normal_(parameter)
    outputs(model(inputs(name, model))).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), f"{key} has no part in the result"


@pytest.mark.parametrize("name", models.names())
def test_head_and_depth_order_exist_and_cover_the_model(name: str) -> None:
    model, entry = make(name), models.entry(name)
    head = model.get_submodule(entry.head)
    assert isinstance(head, torch.nn.Linear | ValueHead)
    blocks = [model.get_submodule(path) for path in entry.depth_order]
    counted = {id(p) for part in [head, *blocks] for p in part.parameters()}
    beside = [key for key, p in model.named_parameters() if id(p) not in counted and "norm" not in key]
    left_out = [key for key in beside if key.split(".")[0] not in BESIDE]
    assert not left_out


@pytest.mark.parametrize("name", models.names())
def test_saved_and_loaded_is_the_same(name: str, tmp_path: Path) -> None:
    model = make(name).eval()
    aibig.save_model(model, tmp_path / "model")
    loaded = aibig.load_model(tmp_path / "model")
    batch = inputs(name, model)
    assert torch.equal(outputs(model(batch)), outputs(loaded(batch)))
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"model.json", "weights.safetensors"}
