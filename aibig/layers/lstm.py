"""torch's LSTM over padded sequences, with what AWD-LSTM drops in training (arXiv 1708.02182). Knows no model.

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
    """nn.LSTM, its parameters by the same names.

    weight_drop: of single weights from hidden to hidden, the same ones at all times (section 2). locked: `dropout`
    between layers, too, drops the same channels at all times (section 4.2).
    """

    def __init__(self, *arguments: Any, weight_drop: float = 0.0, locked: bool = False, **settings: Any) -> None:
        super().__init__(*arguments, batch_first=True, **settings)
        self.weight_drop, self.locked = weight_drop, locked

    def forward(  # type: ignore[override]
        self, inputs: Tensor, state: LSTMState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, LSTMState]:
        """inputs (B, T, C) of true lengths (B,) -> outputs (B, T, D P), and memory after each sequence's true end.

        Raises RuntimeError for a length of 0 or one beyond T.
        """
        if inputs.device.type == "cpu" and not has_kernel_under_autocast():
            with torch.autocast("cpu", enabled=False):
                return self.forward(inputs.float(), state, lengths)
        if self.training and (self.weight_drop or (self.locked and self.dropout)):
            return self._layer_by_layer(inputs, state, lengths)
        if lengths is None:
            return super().forward(inputs, state)
        outputs, state = super().forward(packed(inputs, lengths), state)
        return padded(outputs, inputs.shape[1]), state

    def init_state(self, batch_size: int) -> LSTMState:
        """Zeros."""
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
        before = zip(*(one.split(directions) for one in state or self.init_state(len(inputs))), strict=True)
        after = []
        for layer, state in enumerate(before):
            if layer:
                inputs = drop(inputs, self.dropout, True)
            weights = self.all_weights[layer * directions : (layer + 1) * directions]
            inputs, state = self._layer(
                inputs, state, lengths, [one for some in weights for one in self._dropped(some)]
            )
            after.append(state)
        hidden, cell = (torch.cat(one) for one in zip(*after, strict=True))
        return inputs, (hidden, cell)

    def _layer(
        self, inputs: Tensor, state: LSTMState, lengths: Tensor | None, weights: list[Tensor]
    ) -> tuple[Tensor, LSTMState]:
        """One layer's outputs (B, T, D P) and its state after each sequence's true end."""
        how = (weights, self.bias, 1, 0.0, True, self.bidirectional)
        if lengths is None:
            outputs, hidden, cell = torch.lstm(inputs, state, *how, True)
            return outputs, (hidden, cell)
        given = packed(inputs, lengths)
        state = self.permute_hidden(state, given.sorted_indices)
        outputs, hidden, cell = torch.lstm(given.data, given.batch_sizes, state, *how)
        state = self.permute_hidden((hidden, cell), given.unsorted_indices)
        return padded(given._replace(data=outputs), inputs.shape[1]), state

    def _dropped(self, weights: list[nn.Parameter]) -> list[Tensor]:
        """The weights of one layer in one direction: from input to hidden, from hidden to hidden, and others."""
        to_hidden, hidden_to_hidden, *others = weights
        return [to_hidden, F.dropout(hidden_to_hidden, self.weight_drop), *others]


def has_kernel_under_autocast() -> bool:
    """Whether oneDNN, which runs the LSTM on a CPU, trains in the type that autocast asks for.

    In bf16 it does on some processors; in fp16, where it knows it at all, it has the forward pass alone.
    """
    if not torch.is_autocast_enabled("cpu") or not torch.backends.mkldnn.is_available():
        return True
    return torch.get_autocast_dtype("cpu") == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def packed(inputs: Tensor, lengths: Tensor) -> PackedSequence:
    """(B, T, C) without what stands beyond lengths (B,), so that padding is never read."""
    return pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)


def padded(sequences: PackedSequence, time: int) -> Tensor:
    """What `packed` made, as (B, T, C) with zeros as padding."""
    outputs, _ = pad_packed_sequence(sequences, batch_first=True, total_length=time)
    return outputs
