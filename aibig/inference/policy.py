"""Acting by Q-values. Knows no environment."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from aibig.layers.value_distributions import action_values


def greedy_actions(
    model: nn.Module, observations: NDArray[Any], device: torch.device, mask: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """The action of the highest value for each observation: (E, ...) -> (E,). The model's mode is the caller's.

    mask (E, A): the actions that are allowed.
    """
    with torch.no_grad():
        values = action_values(model, model(torch.from_numpy(observations).to(device)))  # (E, A)
        if mask is not None:
            values = values.masked_fill(~torch.from_numpy(mask).to(device), -torch.inf)
        actions: NDArray[np.int64] = values.argmax(1).cpu().numpy()
    return actions
