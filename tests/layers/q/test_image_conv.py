"""A convolution over images is nn.Conv2d, whichever way it is computed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aibig.layers.q.image_conv import ImageConv2d


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "shape"),
    [
        (8, 4, 0, (4, 84, 84)),
        (8, 4, 0, (3, 87, 50)),  # the last pixels belong to no window
        (6, 3, 0, (2, 20, 13)),
        (3, 1, 1, (3, 9, 8)),
        (5, 2, 0, (3, 12, 11)),
        (4, 2, 1, (3, 12, 12)),
    ],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_it_gives_what_a_convolution_does(
    kernel: int, stride: int, padding: int, shape: tuple[int, int, int], layout: torch.memory_format, as_bytes: bool
) -> None:
    torch.manual_seed(0)
    ours = ImageConv2d(shape[0], 6, kernel, stride, padding).double()
    theirs = nn.Conv2d(shape[0], 6, kernel, stride, padding).double()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randint(256, (3, *shape), dtype=torch.uint8).contiguous(memory_format=layout)
    numbers = images.double() / 255.0
    outputs, expected = ours(images if as_bytes else numbers), theirs(numbers)
    torch.testing.assert_close(outputs, expected)
    outputs.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    torch.testing.assert_close(ours.bias.grad, theirs.bias.grad)


@pytest.mark.parametrize("settings", [(8, 4), (3, 1, 1)])
def test_half_precision_rounds_as_autocast_does(settings: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    ours = ImageConv2d(4, 32, *settings)
    images = torch.randint(256, (2, 4, 36, 36), dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = ours(images)
    assert outputs.dtype == torch.bfloat16
    torch.testing.assert_close(outputs.float(), ours(images), rtol=0.02, atol=0.02)
