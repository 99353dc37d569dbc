"""A model that takes other inputs than the data offer is refused in a line, before anything is trained."""

from __future__ import annotations

from typing import Any

import pytest
from families import NETS, REVIEWS

import aibig

TEXTS: dict[str, Any] = {"name": "text_labels", "path": str(REVIEWS)}


@pytest.mark.parametrize(
    ("model", "data", "complaint"),
    [
        ("cnn", NETS["data"], "'cnn' takes images, and the data are none"),
        ("resnet18", NETS["data"], "'resnet18' takes images, and the data are none"),
        ("lstm", NETS["data"], "'lstm' takes texts, and the data are none"),
        ("net", TEXTS, "'net' reads no texts"),
    ],
)
def test_a_model_of_other_inputs_is_refused(model: str, data: dict[str, Any], complaint: str) -> None:
    with pytest.raises(aibig.UserError, match=complaint):
        aibig.train({**NETS, "model": {"name": model}, "data": data})
