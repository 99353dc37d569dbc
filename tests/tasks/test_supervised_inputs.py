"""A model that takes other inputs than the data have is refused in a line, before anything is trained."""

from __future__ import annotations

from typing import Any

import pytest
from families import NETS, REVIEWS

import aibig

TEXTS: dict[str, Any] = {"name": "text_labels", "path": str(REVIEWS)}


@pytest.mark.parametrize(
    ("model", "data", "complaint"),
    [
        ("cnn", NETS["data"], "'cnn' needs image inputs, but the data have none"),
        ("resnet18", NETS["data"], "'resnet18' needs image inputs, but the data have none"),
        ("lstm", NETS["data"], "'lstm' needs text inputs, but the data have none"),
        ("net", TEXTS, "'net' does not support text inputs"),
    ],
)
def test_a_model_of_other_inputs_is_refused(model: str, data: dict[str, Any], complaint: str) -> None:
    with pytest.raises(aibig.UserError, match=complaint):
        aibig.train({**NETS, "model": {"name": model}, "data": data})
