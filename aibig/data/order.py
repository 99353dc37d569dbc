"""The order in which samples come: a function of seed and epoch, so that its state is two numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from aibig.errors import UserError
from aibig.seeds import derive_seed


class EpochOrder:
    """Shuffled batches of row numbers, epoch after epoch, each rank its own rows of each batch.

    Every row comes once an epoch; the last batch may be smaller. A single row that is left over, which batch norm
    could not use alone, is added to the last batch. With several ranks a batch is dealt out in turn, and a last batch
    with fewer rows than ranks is left out.

    Args:
        rows: number of rows.
        batch_size: rows of a batch over all ranks.
        seed: decides the order.
        rank: number of this process, from 0.
        world_size: number of processes.

    Raises:
        UserError: there are fewer rows than ranks.
    """

    def __init__(self, rows: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        if min(rows, batch_size) < world_size:
            raise UserError(f"{rows} rows in batches of {batch_size} do not go round {world_size} ranks")
        self._rows, self._batch_size, self._seed = rows, batch_size, seed
        self._rank, self._world_size = rank, world_size
        full_batches, left_over = divmod(rows, batch_size)
        extends_last = full_batches > 0 and left_over == 1
        self.batches_per_epoch = full_batches + (left_over >= world_size and not extends_last)
        self._rows_used = rows if extends_last or left_over >= world_size else rows - left_over
        self.epoch, self._batch = 0, 0
        self._order = self._shuffled()

    def next(self) -> tuple[Tensor, int]:
        """This rank's row numbers of the next batch, and the size of the whole batch."""
        if self._batch == self.batches_per_epoch:
            self.epoch, self._batch = self.epoch + 1, 0
            self._order = self._shuffled()
        start = self._batch * self._batch_size
        self._batch += 1
        is_last = self._batch == self.batches_per_epoch
        batch = self._order[start : self._rows_used if is_last else start + self._batch_size]
        return batch[self._rank :: self._world_size], len(batch)

    def seed_of_batch(self, purpose: str) -> int:
        """A seed for whatever is drawn at random about the latest batch on this rank.

        Args:
            purpose: what is drawn; each purpose has its own seed.
        """
        return derive_seed(self._seed, purpose, self.epoch, self._batch, self._rank)

    def _shuffled(self) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self._seed, "order", self.epoch))
        return torch.randperm(self._rows, generator=generator)

    def state_dict(self) -> dict[str, int]:
        """The position: epoch, and batch within it."""
        return {"epoch": self.epoch, "batch": self._batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from a position.

        Args:
            state: what `state_dict` returned.
        """
        self.epoch, self._batch = state["epoch"], state["batch"]
        self._order = self._shuffled()
