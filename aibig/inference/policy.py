"""Acting by Q-values. Knows no environment."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


def greedy_actions(model: nn.Module, observations: NDArray[np.float32], device: torch.device) -> NDArray[np.int64]:
    """The action of the highest value for each observation: (E, ...) -> (E,). The model's mode is the caller's."""
    with torch.no_grad():
        values = model(torch.from_numpy(observations).to(device))  # (E, A)
        actions: NDArray[np.int64] = values.argmax(1).cpu().numpy()
    return actions
