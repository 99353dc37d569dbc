"""What a causal model keeps of the tokens that it has read, in tensors allocated once. Knows no model.

B batch, T time, D channels of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aibig.errors import UserError


class KVCache:
    """Tensors (B, capacity, ..., D) by name, such as each block's keys; changed in place.

    In memory the entries of a head are contiguous, (B, ..., capacity, D), since they are read head by head. Rows may
    have different `lengths`, (B,); new entries are written from each row's own end on. Entries beyond a row's end are
    left over from padding, and must be masked by whoever reads them. `longest` is the largest length, `equal_lengths`
    whether all are the same. Both are known on the host, so that no step waits for the device.

    Args:
        batch_size: B.
        capacity: number of tokens that it has room for.
        device: of the tensors.
    """

    def __init__(self, batch_size: int, capacity: int, device: torch.device) -> None:
        self.capacity, self.longest, self.equal_lengths = capacity, 0, True
        self.lengths = torch.zeros(batch_size, dtype=torch.long, device=device)
        self._tensors: dict[str, Tensor] = {}

    def positions(self, time: int) -> Tensor:
        """Positions of the next tokens of each row, (B, T); (1, T) if all rows are of equal lengths.

        Args:
            time: T.
        """
        steps = torch.arange(time, device=self.lengths.device)
        return (steps + self.longest).unsqueeze(0) if self.equal_lengths else self.lengths.unsqueeze(1) + steps

    def append(self, name: str, new: Tensor, first: int = 0) -> Tensor:
        """Write new entries at the rows' ends: all entries of this name up to the longest row's end.

        The lengths change by `advance` only, once every name is written.

        Args:
            name: of the tensor.
            new: entries, (B, T, ...).
            first: position of the first entry to return.

        Raises:
            UserError: the entries do not fit.
        """
        time = new.shape[1]
        if self.longest + time > self.capacity:
            raise UserError(f"the KV cache holds {self.capacity} tokens, not {self.longest + time}; start one for more")
        entries = self._tensors.get(name)
        if entries is None:
            batch, _, *between, size = new.shape
            entries = self._tensors[name] = new.new_zeros(batch, *between, self.capacity, size).movedim(-2, 1)
        if self.equal_lengths:
            entries[:, self.longest : self.longest + time] = new
        else:
            entries[torch.arange(len(entries), device=entries.device).unsqueeze(1), self.positions(time)] = new
        return entries[:, first : self.longest + time]

    def append_with_past(self, name: str, new: Tensor, past: int) -> Tensor:
        """Write new entries as `append` does: each row's new entries behind those before them, (B, past + T, ...).

        Args:
            name: of the tensor.
            new: entries, (B, T, ...).
            past: number of earlier entries, zeros where there are none.
        """
        if self.equal_lengths and self.longest >= past:
            return self.append(name, new, self.longest - past)
        entries = self.append(name, new)
        positions = self.positions(new.shape[1] + past) - past  # (1 or B, past + T)
        rows = torch.arange(len(entries), device=entries.device).unsqueeze(1)
        missing = (positions < 0).view(*positions.shape, *[1] * (new.ndim - 2))
        return entries[rows, positions.clamp(min=0)].masked_fill(missing, 0)

    def advance(self, time: int, lengths: Tensor | None = None) -> None:
        """Move the rows' ends behind the entries that were written.

        Args:
            time: T, number of entries written for each row.
            lengths: how many of these are no padding, (B,); None is T for all.
        """
        if lengths is None:
            self.lengths += time
            self.longest += time
        else:
            self.set_lengths(self.lengths + lengths.to(self.lengths.device))

    def set_lengths(self, lengths: Tensor) -> None:
        """Set the rows' ends.

        Args:
            lengths: number of entries that remain of each row, (B,).
        """
        self.lengths = lengths.to(self.lengths.device)
        self.longest = int(lengths.max())
        self.equal_lengths = int(lengths.min()) == self.longest

    def select(self, rows: Tensor) -> KVCache:
        """A new cache of some rows alone.

        Args:
            rows: indices of the rows.
        """
        selected = KVCache(len(rows), self.capacity, self.lengths.device)
        selected._tensors = {name: old.movedim(1, -2)[rows].movedim(-2, 1) for name, old in self._tensors.items()}
        selected.set_lengths(self.lengths[rows])
        return selected

    def replace(self, rows: Tensor, other: KVCache) -> None:
        """Replace some rows by those of another cache.

        Args:
            rows: indices of the rows here.
            other: the cache with the new rows, in their order.
        """
        for name, entries in other._tensors.items():
            self._tensors[name][rows, : other.longest] = entries[:, : other.longest]
        self.set_lengths(self.lengths.index_copy(0, rows, other.lengths))
