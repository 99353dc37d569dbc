"""A convolution over pictures is nn.Conv2d, whichever way it is computed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aibig.layers.q.image_conv import PictureConv2d


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
@pytest.mark.parametrize("of_bytes", [True, False])
def test_it_gives_what_a_convolution_does(
    kernel: int, stride: int, padding: int, shape: tuple[int, int, int], layout: torch.memory_format, of_bytes: bool
) -> None:
    torch.manual_seed(0)
    ours = PictureConv2d(shape[0], 6, kernel, stride, padding).double()
    theirs = nn.Conv2d(shape[0], 6, kernel, stride, padding).double()
    theirs.load_state_dict(ours.state_dict())
    pictures = torch.randint(256, (3, *shape), dtype=torch.uint8).contiguous(memory_format=layout)
    numbers = pictures.double() / 255.0
    given, expected = ours(pictures if of_bytes else numbers), theirs(numbers)
    torch.testing.assert_close(given, expected)
    for one in (given, expected):
        one.square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    torch.testing.assert_close(ours.bias.grad, theirs.bias.grad)


@pytest.mark.parametrize("settings", [(8, 4), (3, 1, 1)])
def test_half_precision_rounds_as_autocast_does(settings: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    ours = PictureConv2d(4, 32, *settings)
    pictures = torch.randint(256, (2, 4, 36, 36), dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        given = ours(pictures)
    assert given.dtype == torch.bfloat16
    torch.testing.assert_close(given.float(), ours(pictures), rtol=0.02, atol=0.02)
