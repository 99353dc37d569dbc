"""Evaluation mode for the length of a block. Knows no model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """A context with a model in evaluation mode and without gradients; its modules' modes are restored afterwards.

    Args:
        model: some of its modules may be in evaluation mode already.
    """
    was_training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in was_training:
            module.training = True
