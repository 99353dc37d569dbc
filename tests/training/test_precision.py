"""The rules by which precision and threads are chosen."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import aibig
from aibig.training.devices import precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("has_bf16", "model", "expected"),
    [
        (True, {"name": "transformer", "vocab_size": 50, "width": 128, "layers": 1}, "bf16"),
        (True, {"name": "transformer", "vocab_size": 50, "width": 64, "layers": 1}, "fp32"),
        (False, {"name": "transformer", "vocab_size": 50, "width": 128, "layers": 1}, "fp32"),
        (True, {"name": "net", "in_features": 256, "hidden": [256, 256], "out_features": 256}, "bf16"),
        (True, {"name": "net", "in_features": 128, "hidden": [128, 128], "out_features": 128}, "fp32"),
    ],
)
def test_bf16_on_a_cpu_takes_wide_matrices_and_its_instructions(
    has_bf16: bool, model: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: has_bf16)
    module = aibig.create_model(**model)
    assert precision.choose_precision("auto", CPU, module) == expected
    assert precision.choose_precision("fp16", CPU, module) == "fp16"


def test_small_models_take_one_thread() -> None:
    assert precision.choose_threads("auto", CPU, aibig.create_model("net")) == 1
    torch.set_num_threads(2)
    assert precision.choose_threads("auto", CPU, aibig.create_model("net", in_features=1000, hidden=1000)) == 2
    assert precision.choose_threads(3, CPU, aibig.create_model("net")) == 3


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_forward_passes_run_in_the_chosen_precision(name: str) -> None:
    with precision.autocast(name, CPU)():
        dtype = torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype
    assert dtype == {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
