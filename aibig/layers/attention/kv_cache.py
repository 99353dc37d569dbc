"""What a causal model keeps of the tokens that it has read, in tensors allocated once. Knows no model.

B batch, T time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aibig.errors import UserError


class KVCache:
    """Tensors (B, capacity, ..., D) by name, such as each block's keys; changed in place.

    In storage the entries of one head lie side by side, (B, ..., capacity, D): what reads them reads head by head.
    Rows may have read different numbers of tokens, `lengths` (B,): each is written from its own end on. What stands
    beyond a row's end is left over from padding, and must be masked by those who read it. `longest` is the largest
    length, `even` whether all are the same; the host knows both, so that nothing waits for the device.
    """

    def __init__(self, batch_size: int, capacity: int, device: torch.device) -> None:
        self.capacity, self.longest, self.even = capacity, 0, True
        self.lengths = torch.zeros(batch_size, dtype=torch.long, device=device)
        self._kept: dict[str, Tensor] = {}

    def positions(self, time: int) -> Tensor:
        """Where the next `time` tokens of each row stand: (B, T); (1, T) if all rows are as long."""
        steps = torch.arange(time, device=self.lengths.device)
        return (steps + self.longest).unsqueeze(0) if self.even else self.lengths.unsqueeze(1) + steps

    def append(self, name: str, new: Tensor, first: int = 0) -> Tensor:
        """Write `new` (B, T, ...) at the rows' ends; returns what is kept by `name` from `first` to the longest's end.

        Raises UserError if it does not fit. The ends move by `advance` alone, once every name is written.
        """
        time = new.shape[1]
        if self.longest + time > self.capacity:
            raise UserError(
                f"this memory holds {self.capacity} tokens, not {self.longest + time}; start one with more max_tokens"
            )
        kept = self._kept.get(name)
        if kept is None:
            batch, _, *between, size = new.shape
            kept = self._kept[name] = new.new_zeros(batch, *between, self.capacity, size).movedim(-2, 1)
        if self.even:
            kept[:, self.longest : self.longest + time] = new
        else:
            kept[torch.arange(len(kept), device=kept.device).unsqueeze(1), self.positions(time)] = new
        return kept[:, first : self.longest + time]

    def before(self, name: str, new: Tensor, count: int) -> Tensor:
        """`new` (B, T, ...) behind the `count` entries before it, zeros where there are none: (B, count + T, ...).

        Written as by `append`.
        """
        if self.even and self.longest >= count:
            return self.append(name, new, self.longest - count)
        kept = self.append(name, new)
        places = self.positions(new.shape[1] + count) - count  # (1 or B, count + T)
        found = kept[torch.arange(len(kept), device=kept.device).unsqueeze(1), places.clamp(min=0)]
        return found.masked_fill((places < 0).view(*places.shape, *[1] * (new.ndim - 2)), 0)

    def advance(self, time: int, lengths: Tensor | None = None) -> None:
        """Move every row's end by `time` tokens, or each by its own true `lengths` (B,)."""
        if lengths is None:
            self.lengths += time
            self.longest += time
        else:
            self.rewind(self.lengths + lengths.to(self.lengths.device))

    def rewind(self, lengths: Tensor) -> None:
        """Each row ends after its first `lengths` (B,) tokens."""
        self.lengths = lengths.to(self.lengths.device)
        self.longest = int(lengths.max())
        self.even = int(lengths.min()) == self.longest

    def select(self, rows: Tensor) -> KVCache:
        """A memory of these rows alone."""
        chosen = KVCache(len(rows), self.capacity, self.lengths.device)
        chosen._kept = {name: kept.movedim(1, -2)[rows].movedim(-2, 1) for name, kept in self._kept.items()}
        chosen.rewind(self.lengths[rows])
        return chosen

    def replace(self, rows: Tensor, others: KVCache) -> None:
        """These rows become those of `others`, in its order."""
        for name, kept in others._kept.items():
            self._kept[name][rows, : others.longest] = kept[:, : others.longest]
        self.rewind(self.lengths.index_copy(0, rows, others.lengths))
