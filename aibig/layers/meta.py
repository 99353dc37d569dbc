"""Models without memory: made to be counted or looked at. Knows no model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class ParametersOnMeta(TorchFunctionMode):
    """A context in which layers are made without memory or values for their weights.

    `torch.device("meta")` does that for every tensor, also for the few that some constructors compute with (RegNet's
    widths, the depth at which a block is dropped), which then fail for want of values.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, arguments: tuple[Any, ...] = (), keywords: Any = None
    ) -> Any:
        keywords = keywords or {}
        if function is torch.empty:
            keywords = {**keywords, "device": "meta"}
        return function(*arguments, **keywords)
