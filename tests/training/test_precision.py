"""The rules by which precision and threads are chosen."""

from __future__ import annotations

import pytest
import torch

import aibig
from aibig.training import precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("has_bf16", "width", "chosen"), [(True, 256, "bf16"), (True, 128, "fp32"), (False, 256, "fp32")]
)
def test_bf16_on_a_cpu_takes_wide_matrices_and_its_instructions(
    has_bf16: bool, width: int, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: has_bf16)
    model = aibig.create_model("transformer", vocab_size=50, width=width, layers=1)
    assert precision.choose_precision("auto", CPU, model) == chosen
    assert precision.choose_precision("fp16", CPU, model) == "fp16"


def test_small_models_take_one_thread() -> None:
    assert precision.choose_threads("auto", CPU, aibig.create_model("net")) == 1
    torch.set_num_threads(2)
    assert precision.choose_threads("auto", CPU, aibig.create_model("net", in_features=1000, hidden=1000)) == 2
    assert precision.choose_threads(3, CPU, aibig.create_model("net")) == 3


@pytest.mark.parametrize("wanted", ["fp32", "bf16", "fp16"])
def test_forward_passes_run_in_what_was_chosen(wanted: str) -> None:
    with precision.autocast(wanted, CPU)():
        dtype = torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype
    assert dtype == {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[wanted]
