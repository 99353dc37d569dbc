"""Models that come in sizes have the published numbers, and settings go before the size."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import aibig
from aibig.layers.utils.meta import ParametersOnMeta


@pytest.mark.parametrize(
    ("name", "size", "millions"),
    [  # the names' own, more exactly: of the published weights, the shared matrix once
        *[("gpt2", "small", 124.4), ("gpt2", "medium", 354.8), ("gpt2", "large", 774.0), ("gpt2", "xl", 1557.6)],
        *[("llama", "1b", 1235.8), ("llama", "3b", 3212.7), ("llama", "8b", 8030.3), ("llama", "70b", 70_553.7)],
        *[("bert", "base", 109.5), ("bert", "large", 335.2)],
    ],
)
def test_a_size_has_as_many_parameters_as_the_published_model(name: str, size: str, millions: float) -> None:
    with ParametersOnMeta():
        model = aibig.create_model(name, size=size, context=1024 if name != "bert" else 512)
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert"])
def test_what_is_set_goes_before_the_size(name: str) -> None:
    model = aibig.create_model(name, vocab_size=11, context=8, width=16, layers=3, heads=4)
    assert model.embedding.weight.shape == (11, 16) and len(model.blocks) == 3 and model.blocks[0].attention.heads == 4
    widened: dict[str, int] = {"gpt2": 64, "llama": 2 * 42, "bert": 64}  # SwiGLU: 8/3, twice
    assert model.blocks[0].feed_forward.up_proj.weight.shape == (widened[name], 16)


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert"])
def test_first_weights_are_small_and_those_that_add_to_the_residual_stream_smaller(name: str) -> None:
    torch.manual_seed(0)
    model: Any = aibig.create_model(name, vocab_size=500, context=8, width=128, layers=8, heads=4)
    added = 0.02 if name == "bert" else 0.005  # 0.02 / sqrt(2 * 8)
    for key, parameter in model.named_parameters():
        if parameter.ndim == 2 and parameter.numel() > 1000:
            std = added if key.endswith(("out_proj.weight", "down_proj.weight")) else 0.02
            assert parameter.std().item() == pytest.approx(std, rel=0.05), key
        elif key.endswith("bias"):
            assert not parameter.any()
