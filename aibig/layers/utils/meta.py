"""Models without memory for their weights, to be counted or looked at. Knows no model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class ParametersOnMeta(TorchFunctionMode):
    """A context in which layers are built with their parameters on the meta device.

    `torch.device("meta")` places every tensor there, including the few whose values some constructors need (RegNet's
    widths, stochastic depth), which then fail.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, arguments: tuple[Any, ...] = (), keywords: Any = None
    ) -> Any:
        keywords = keywords or {}
        if function is torch.empty:
            keywords = {**keywords, "device": "meta"}
        return function(*arguments, **keywords)
