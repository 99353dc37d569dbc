"""Linear layers with fp16 or int8 weights, for CPUs that memory bandwidth limits. Knows no model."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from aibig.errors import UserError

DTYPES = ("float16", "int8")


class QuantizedLinear(nn.Module):
    """An nn.Linear whose weights are float16, or int8 with a scale for each output channel; inputs stay float32.

    With int8 the products are of integers: the inputs of a call are quantized to 7 bits with one scale for all of
    them, so that sums of two products fit into 16 bits where a processor adds them so.

    Args:
        linear: the layer with the weights in full precision.
        dtype: "float16" or "int8".
    """

    def __init__(self, linear: nn.Linear, dtype: str) -> None:
        super().__init__()
        self.dtype, self.in_features, self.out_features = dtype, linear.in_features, linear.out_features
        weight = linear.weight.detach().float()
        bias = None if linear.bias is None else linear.bias.detach().float()
        if dtype == "float16":
            self._packed: Any = torch.ops.quantized.linear_prepack_fp16(weight, bias)
        else:
            self._packed = torch.ops.quantized.linear_prepack(quantize_per_channel(weight), bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """The layer's outputs, (..., out_features).

        Args:
            inputs: (..., in_features).
        """
        if self.dtype == "float16":
            outputs: Tensor = torch.ops.quantized.linear_dynamic_fp16(inputs, self._packed)
        else:
            outputs = torch.ops.quantized.linear_dynamic(inputs, self._packed, reduce_range=True)
        return outputs

    def extra_repr(self) -> str:
        """As nn.Linear's, with the type of the weights."""
        return f"{self.dtype}, in_features={self.in_features}, out_features={self.out_features}"


def quantize_per_channel(weight: Tensor) -> Tensor:
    """A weight as integers from -127 to 127 with a scale for each output channel.

    Args:
        weight: (out_features, in_features).
    """
    scales = weight.abs().amax(1).clamp(min=torch.finfo(weight.dtype).tiny) / 127
    integers = (weight / scales.unsqueeze(1)).round().to(torch.int8)
    with warnings.catch_warnings():  # torch deprecates these tensors in favour of another package
        warnings.simplefilter("ignore", UserWarning)
        zero_points = torch.zeros(len(scales), dtype=torch.long)
        return torch._make_per_channel_quantized_tensor(integers, scales.double(), zero_points, 0)


def quantize(model: nn.Module, dtype: str) -> nn.Module:
    """Replace every nn.Linear of a model, in place, by a `QuantizedLinear`. Returns the model.

    Args:
        model: on the CPU.
        dtype: of the weights, "float16" or "int8".

    Raises:
        UserError: another type, a model on another device, or this build of torch lacks the kernels.
    """
    if dtype not in DTYPES:
        raise UserError(f"weights: must be one of {', '.join(DTYPES)}, not {dtype!r}")
    if any(parameter.device.type != "cpu" for parameter in model.parameters()):
        raise UserError(f"{dtype} weights are for the CPU; leave them out on another device")
    try:
        for parent in list(model.modules()):
            for name, child in parent.named_children():
                if type(child) is nn.Linear:
                    setattr(parent, name, QuantizedLinear(child, dtype))
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        raise UserError(f"{dtype} weights: this torch can't make them on this processor: {error}") from None
    return model
