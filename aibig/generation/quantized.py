"""Linear layers with smaller weights, for a CPU that waits for its memory. Knows no model."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from aibig.errors import UserError

KINDS = ("float16", "int8")


class QuantizedLinear(nn.Module):
    """An nn.Linear whose weights are float16, or int8 with a scale for each output channel; inputs stay float32.

    With int8 the products are of whole numbers: the inputs of a call are rounded to 7 bits, with one scale for all of
    them, so that sums of two products fit into 16 bits where a processor adds them so.
    """

    def __init__(self, linear: nn.Linear, kind: str) -> None:
        super().__init__()
        self.kind, self.in_features, self.out_features = kind, linear.in_features, linear.out_features
        weight = linear.weight.detach().float()
        bias = None if linear.bias is None else linear.bias.detach().float()
        if kind == "float16":
            self._packed: Any = torch.ops.quantized.linear_prepack_fp16(weight, bias)
        else:
            self._packed = torch.ops.quantized.linear_prepack(rounded(weight), bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        if self.kind == "float16":
            made: Tensor = torch.ops.quantized.linear_dynamic_fp16(inputs, self._packed)
        else:
            made = torch.ops.quantized.linear_dynamic(inputs, self._packed, reduce_range=True)
        return made

    def extra_repr(self) -> str:
        """As nn.Linear's, with the kind."""
        return f"{self.kind}, in_features={self.in_features}, out_features={self.out_features}"


def rounded(weight: Tensor) -> Tensor:
    """A weight (out, in) as whole numbers from -127 to 127 with a scale for each output channel."""
    scales = weight.abs().amax(1).clamp(min=torch.finfo(weight.dtype).tiny) / 127
    numbers = (weight / scales.unsqueeze(1)).round().to(torch.int8)
    with warnings.catch_warnings():  # torch would have these replaced by a package of its own
        warnings.simplefilter("ignore", UserWarning)
        zeros = torch.zeros(len(scales), dtype=torch.long)
        return torch._make_per_channel_quantized_tensor(numbers, scales.double(), zeros, 0)


def shrink(model: nn.Module, kind: str) -> nn.Module:
    """Replace every nn.Linear of `model`, in place, by a `QuantizedLinear` of this kind. Returns the model.

    Raises UserError for another kind, a model that is not on the CPU, and where torch lacks what it takes.
    """
    if kind not in KINDS:
        raise UserError(f"weights: must be one of {', '.join(KINDS)}, not {kind!r}")
    if any(one.device.type != "cpu" for one in model.parameters()):
        raise UserError(f"{kind} weights are for the CPU; leave them out on another device")
    try:
        for parent in list(model.modules()):
            for name, child in parent.named_children():
                if type(child) is nn.Linear:
                    setattr(parent, name, QuantizedLinear(child, kind))
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        raise UserError(f"{kind} weights: this torch can't make them on this processor: {error}") from None
    return model
