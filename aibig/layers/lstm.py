"""torch's LSTM over padded sequences, with the dropout of AWD-LSTM (arXiv 1708.02182). Knows no model.

B batch, T time, C channels in, H hidden, P outputs (H, or the width of a projection), D directions, L layers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from aibig.layers.dropout import locked_dropout

LSTMState = tuple[Tensor, Tensor]  # hidden (D L, B, P) and cell (D L, B, H) states


class LSTM(nn.LSTM):
    """nn.LSTM with batch_first, its parameters by the same names.

    Args:
        arguments: positional ones of nn.LSTM.
        weight_drop: probability of dropout of each weight from hidden to hidden, for all time steps (section 2).
        locked: whether `dropout` between layers drops the same channels at all time steps (section 4.2).
        settings: further ones of nn.LSTM.
    """

    def __init__(self, *arguments: Any, weight_drop: float = 0.0, locked: bool = False, **settings: Any) -> None:
        super().__init__(*arguments, batch_first=True, **settings)
        self.weight_drop, self.locked = weight_drop, locked

    def forward(  # type: ignore[override]
        self, inputs: Tensor, state: LSTMState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, LSTMState]:
        """Outputs, (B, T, D P), and the state after each sequence's true end.

        Args:
            inputs: right-padded, (B, T, C).
            state: hidden and cell states before the inputs; None is zeros.
            lengths: true lengths, (B,); None is T for all.

        Raises:
            RuntimeError: a length is 0 or greater than T.
        """
        if inputs.device.type == "cpu" and not has_kernel_under_autocast():
            with torch.autocast("cpu", enabled=False):
                return self.forward(inputs.float(), state, lengths)
        if self.training and (self.weight_drop or (self.locked and self.dropout)):
            return self._layer_by_layer(inputs, state, lengths)
        if lengths is None:
            return super().forward(inputs, state)
        outputs, state = super().forward(_pack(inputs, lengths), state)
        return _unpack(outputs, inputs.shape[1]), state

    def init_state(self, batch_size: int) -> LSTMState:
        """Zeros.

        Args:
            batch_size: B.
        """
        weight = next(self.parameters())
        shape = (self.num_layers * (1 + self.bidirectional), batch_size)
        hidden = torch.zeros(*shape, self.proj_size or self.hidden_size, dtype=weight.dtype, device=weight.device)
        cell = torch.zeros(*shape, self.hidden_size, dtype=weight.dtype, device=weight.device)
        return hidden, cell

    def _layer_by_layer(
        self, inputs: Tensor, state: LSTMState | None, lengths: Tensor | None
    ) -> tuple[Tensor, LSTMState]:
        drop = locked_dropout if self.locked else F.dropout
        directions = 1 + self.bidirectional
        hidden, cell = state or self.init_state(len(inputs))
        new_states = []
        for layer, state in enumerate(zip(hidden.split(directions), cell.split(directions), strict=True)):
            if layer:
                inputs = drop(inputs, self.dropout, True)
            weights = self.all_weights[layer * directions : (layer + 1) * directions]
            dropped = [weight for direction in weights for weight in self._drop_weights(direction)]
            inputs, state = self._layer(inputs, state, lengths, dropped)
            new_states.append(state)
        hidden, cell = map(torch.cat, zip(*new_states, strict=True))
        return inputs, (hidden, cell)

    def _layer(
        self, inputs: Tensor, state: LSTMState, lengths: Tensor | None, weights: list[Tensor]
    ) -> tuple[Tensor, LSTMState]:
        """One layer's outputs (B, T, D P) and its state after each sequence's true end."""
        arguments = (weights, self.bias, 1, 0.0, True, self.bidirectional)
        if lengths is None:
            outputs, hidden, cell = torch.lstm(inputs, state, *arguments, True)
            return outputs, (hidden, cell)
        packed = _pack(inputs, lengths)
        state = self.permute_hidden(state, packed.sorted_indices)
        outputs, hidden, cell = torch.lstm(packed.data, packed.batch_sizes, state, *arguments)
        state = self.permute_hidden((hidden, cell), packed.unsorted_indices)
        return _unpack(packed._replace(data=outputs), inputs.shape[1]), state

    def _drop_weights(self, weights: list[nn.Parameter]) -> list[Tensor]:
        """The weights of one layer in one direction: from input to hidden, from hidden to hidden, and others."""
        input_to_hidden, hidden_to_hidden, *others = weights
        return [input_to_hidden, F.dropout(hidden_to_hidden, self.weight_drop), *others]


def has_kernel_under_autocast() -> bool:
    """Whether oneDNN, which runs the LSTM on a CPU, can train in autocast's type.

    In bf16 it can on some processors; in fp16 it has the forward pass at most.
    """
    if not torch.is_autocast_enabled("cpu") or not torch.backends.mkldnn.is_available():
        return True
    return torch.get_autocast_dtype("cpu") == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _pack(inputs: Tensor, lengths: Tensor) -> PackedSequence:
    """(B, T, C) without padding, which is never read."""
    return pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)


def _unpack(sequences: PackedSequence, time: int) -> Tensor:
    """The inverse of `_pack`: (B, T, C) with zeros as padding."""
    outputs, _ = pad_packed_sequence(sequences, batch_first=True, total_length=time)
    return outputs
