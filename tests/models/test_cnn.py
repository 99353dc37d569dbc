"""The small convolutional net: its shape, images of any size, its layout in memory, exact resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_resume import assert_same_run, train_in_two_parts
from torch import nn

import aibig


def test_its_layers_are_the_documented_ones() -> None:
    model = aibig.create_model("cnn", in_channels=3, num_classes=5, widths=[4, 8, 16], depth=2)
    convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert [(conv.in_channels, conv.out_channels, conv.kernel_size[0], conv.stride[0]) for conv in convs] == [
        *[(3, 4, 5, 2), (4, 8, 3, 1), (8, 8, 3, 1), (8, 16, 3, 1), (16, 16, 3, 1)]
    ]
    assert sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == 5
    features = model.stages(model.stem(torch.randn(2, 3, 28, 28)))
    assert features.shape == (2, 16, 4, 4)
    with pytest.raises(aibig.UserError, match="widths \\[4\\]: give that of the first convolution"):
        aibig.create_model("cnn", widths=[4])


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (28, 28), (32, 32), (33, 65)])
def test_images_may_be_of_any_size(size: tuple[int, int]) -> None:
    model = aibig.create_model("cnn", widths=[4, 8, 16])
    assert model(torch.randn(2, 1, *size)).shape == (2, 10)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_resumes_exactly_and_stays_channels_last(
    image_config: dict[str, Any], precision: str, tmp_path: Path
) -> None:
    config = {**image_config, "trainer": {**image_config["trainer"], "precision": precision}}
    aibig.train(config, out=tmp_path / "whole")
    train_in_two_parts(config, 5, tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    loaded = aibig.load_model(tmp_path / "parts")
    assert loaded.stages[1][1][0].weight.is_contiguous(memory_format=torch.channels_last)
