"""A text as tokens: split, and cut into windows. Knows no model and no loss.

B windows a batch, T tokens a window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from aibig.data.files import BETWEEN_FILES, read_files
from aibig.data.fingerprint import fingerprint
from aibig.data.order import EpochOrder
from aibig.data.tokenizer import KINDS, Tokenizer, make_tokenizer
from aibig.errors import UserError
from aibig.seeds import derive_seed
from aibig.settings import ExistingPath, Fraction, PositiveInt


def read_text(*, path: ExistingPath) -> list[str]:
    """The text of a UTF-8 file, or of all .txt files in a folder and below, in the order of their paths.

    Raises UserError naming the file and the byte where it is not UTF-8.
    """
    return read_files(path)


class TextData:
    """A text as token numbers in three consecutive parts: train, validation, test.

    source: the text, or several, which are joined by a blank line, or a function that returns them. batch_size:
    windows of a micro-batch over all ranks. context: tokens a window. validation_fraction, test_fraction: of the
    text's length; the test part is its end, the validation part what precedes that. tokenizer, vocab_size: see
    `make_tokenizer`. order: "shuffled" windows, each token once an epoch, from another offset in each; or "stream",
    batch_size readers side by side through the text, each window continuing the one before, for models that carry
    memory.

    Raises UserError if the text is too short.
    """

    def __init__(
        self,
        source: str | Iterable[str] | Callable[[], str | Iterable[str]],
        *,
        batch_size: PositiveInt = 32,
        context: PositiveInt = 64,
        validation_fraction: Fraction = 0.05,
        test_fraction: Fraction = 0.1,
        tokenizer: Literal["characters", "bytes", "words", "bpe"] = "characters",
        vocab_size: PositiveInt = 10_000,
        order: Literal["shuffled", "stream"] = "shuffled",
    ) -> None:
        if validation_fraction + test_fraction >= 1:
            raise UserError("validation_fraction and test_fraction together leave nothing to train on")
        given = source() if callable(source) else source
        text = given if isinstance(given, str) else BETWEEN_FILES.join(given)
        self.batch_size, self.context, self.order = batch_size, context, order
        self.tokenizer: Tokenizer = make_tokenizer(tokenizer, text, vocab_size)
        tokens = torch.from_numpy(self.tokenizer.encode(text))
        train_end = int(len(tokens) * (1.0 - validation_fraction - test_fraction))
        test_start = int(len(tokens) * (1.0 - test_fraction))
        parts = {
            "train": tokens[:train_end],
            "validation": tokens[train_end:test_start],
            "test": tokens[test_start:],
        }
        self.parts = {name: part for name, part in parts.items() if len(part) > 1}
        self.fingerprint = fingerprint(parts["train"])
        self.tokenizer_fingerprint = "" if tokenizer in KINDS else self.tokenizer.fingerprint  # "": follows the text
        needed = 1 + context * (batch_size + 1)
        if len(parts["train"]) < needed:
            raise UserError(
                f"the text's training part has {len(parts['train'])} tokens, too few for a batch: {batch_size} "
                f"windows of {context} take {needed}; lower data.batch_size or data.context, or give more text"
            )

    def to(self, device: torch.device) -> None:
        """Keep the tokens on `device`."""
        self.parts = {name: part.to(device) for name, part in self.parts.items()}

    def training_windows(self, seed: int, rank: int, world_size: int) -> ShuffledWindows | StreamWindows:
        """The windows of the training part, in the order that was asked for."""
        kind = StreamWindows if self.order == "stream" else ShuffledWindows
        return kind(self.parts["train"], self.batch_size, self.context, seed, rank, world_size)


def cut(tokens: Tensor, context: int) -> tuple[Tensor, Tensor, Tensor]:
    """A text (tokens,) in windows that do not overlap: tokens (N, T), targets (N, T), and the rest, (R + 1,).

    Every token but the first is a target once: those in the windows, and those after the first of the rest.
    """
    count = (len(tokens) - 1) // context
    end, shape = count * context, (count, context)
    return tokens[:end].view(shape), tokens[1 : end + 1].view(shape), tokens[end:]


class Window(NamedTuple):
    """This rank's part of a batch.

    continues: whether it goes on where the batch before ended. documents: the number of the document that each token
    is of; None where documents are joined.
    """

    tokens: Tensor  # (B, T)
    targets: Tensor  # (B, T)
    continues: bool
    documents: Tensor | None = None  # (B, T)


class ShuffledWindows:
    """Windows in a shuffled order; each epoch cuts the text at another offset."""

    continues = False  # whether a batch continues the one before

    def __init__(
        self, tokens: Tensor, batch_size: int, context: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self._tokens, self._context, self._seed = tokens, context, seed
        windows = (len(tokens) - context) // context  # whatever the offset, as many fit
        windows -= windows % batch_size  # every batch is full, so that its shape never changes
        self.order = EpochOrder(windows, batch_size, seed, rank, world_size)
        self.batches_per_epoch = self.order.batches_per_epoch
        self._steps = torch.arange(context, device=tokens.device)

    def next(self) -> Window:
        """This rank's part of the next batch."""
        index, _ = self.order.next()
        starts = index.to(self._tokens.device, non_blocking=True) * self._context + self._offset()
        places = starts.unsqueeze(1) + self._steps
        return Window(self._tokens[places], self._tokens[places + 1], False)

    def _offset(self) -> int:
        return derive_seed(self._seed, "offset", self.order.epoch) % self._context

    def state_dict(self) -> dict[str, Any]:
        """Where in which epoch."""
        return self.order.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.order.load_state_dict(state)


class StreamWindows:
    """Readers side by side, each through its own stretch of the text, window after window."""

    continues = True

    def __init__(
        self, tokens: Tensor, batch_size: int, context: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        if batch_size % world_size:
            raise UserError(f"data.batch_size {batch_size} can't be dealt out evenly to {world_size} ranks")
        self._tokens, self._context, self._seed = tokens, context, seed
        self.batches_per_epoch = (len(tokens) - context) // batch_size // context
        stretch = self.batches_per_epoch * context
        self._starts = torch.arange(batch_size, device=tokens.device)[rank::world_size].unsqueeze(1) * stretch
        self._steps = torch.arange(context, device=tokens.device)
        self.epoch, self._batch = 0, 0

    def next(self) -> Window:
        """This rank's part of the next batch."""
        if self._batch == self.batches_per_epoch:
            self.epoch, self._batch = self.epoch + 1, 0
        offset = derive_seed(self._seed, "offset", self.epoch) % self._context
        places = self._starts + (offset + self._batch * self._context) + self._steps
        self._batch += 1
        return Window(self._tokens[places], self._tokens[places + 1], self._batch > 1)

    def state_dict(self) -> dict[str, Any]:
        """Where in which epoch."""
        return {"epoch": self.epoch, "batch": self._batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.epoch, self._batch = state["epoch"], state["batch"]
