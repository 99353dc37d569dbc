"""A text as tokens: split, and cut into windows. Knows no model and no loss.

B windows a batch, T tokens a window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from aibig.config.settings import ExistingPath, Fraction, PositiveInt
from aibig.data.fingerprint import check_fingerprint, fingerprint
from aibig.data.order import EpochOrder
from aibig.data.text.documents import Documents, GivenTexts, TextFiles
from aibig.data.text.token_files import tokenize
from aibig.data.text.tokenizer import KINDS, Tokenizer
from aibig.data.text.tokens import document_numbers
from aibig.errors import UserError
from aibig.seeds import derive_seed

# AWD-LSTM, arXiv 1708.02182, section 5.1 and its code: p = 0.95, s = 5, at least 5 tokens
SHORT_SHARE, LENGTH_DEVIATION, SHORTEST = 0.05, 5.0, 5
MEAN_SHARE = 1 - SHORT_SHARE / 2  # of the context, that a window has on average


def read_text(*, path: ExistingPath, field: str = "text") -> TextFiles:
    """The documents of a UTF-8 text file, of a .jsonl or .parquet file, or of all .txt, .jsonl and .parquet files in a
    folder and below, in the order of their paths.

    field: what holds the text in a line of .jsonl or a row of .parquet. Raises UserError naming what can't be read.
    """
    return TextFiles(path, field)


class TextData:
    """A text as token numbers in three consecutive parts: train, validation, test.

    source: the text, or several, or documents, or a function that returns them. batch_size: windows of a micro-batch
    over all ranks. context: tokens a window. validation_fraction, test_fraction: of the text's length; the test part
    is its end, the validation part what precedes that.

    tokenizer: what the vocabulary is made of, or the path of one that is there, a tokenizer.json or a saved model's
    model.json; vocab_size: see `make_tokenizer`. Between two documents stands the tokenizer's end-of-text token, which
    "bpe" has where there are several, or else a blank line. documents: "joined", as one text; or "apart": windows say
    which document each token is of, and models that can keep them apart do. cache: see `tokenize`.

    order: "shuffled" windows, each token once an epoch, from another offset in each; or "stream", batch_size readers
    side by side through the text, each window continuing the one before, for models that carry memory. vary_context:
    windows of a stream have a length that is drawn, see `StreamWindows`.

    Raises UserError if the text is too short.
    """

    def __init__(
        self,
        source: str | Iterable[str] | Documents | Callable[[], str | Iterable[str] | Documents],
        *,
        batch_size: PositiveInt = 32,
        context: PositiveInt = 64,
        validation_fraction: Fraction = 0.05,
        test_fraction: Fraction = 0.1,
        tokenizer: Literal["characters", "bytes", "words", "bpe"] | ExistingPath = "characters",
        vocab_size: PositiveInt = 10_000,
        documents: Literal["joined", "apart"] = "joined",
        cache: str | None = None,
        order: Literal["shuffled", "stream"] = "shuffled",
        vary_context: bool = False,
    ) -> None:
        if validation_fraction + test_fraction >= 1:
            raise UserError("validation_fraction and test_fraction together leave nothing to train on")
        if vary_context and order != "stream":
            raise UserError("vary_context is for a stream; set data.order=stream, or leave it out")
        given = source() if callable(source) else source
        text = tokenize(given if isinstance(given, Documents) else GivenTexts(given), tokenizer, vocab_size, cache)
        self.batch_size, self.context, self.order, self.vary_context = batch_size, context, order, vary_context
        self.tokenizer: Tokenizer = text.tokenizer
        train_end = int(len(text.tokens) * (1.0 - validation_fraction - test_fraction))
        test_start = int(len(text.tokens) * (1.0 - test_fraction))
        ranges = {"train": (0, train_end), "validation": (train_end, test_start), "test": (test_start, None)}
        parts = {name: text.tokens[begin:end] for name, (begin, end) in ranges.items()}
        self.parts = {name: part for name, part in parts.items() if len(part) > 1}
        self.borders = {
            name: text.borders_within(ranges[name][0], len(parts[name])) if documents == "apart" else None
            for name in self.parts
        }
        self._mapped = text.folder is not None
        self.fingerprint = f"{text.digest} to {train_end}" if self._mapped else fingerprint(parts["train"])
        self.tokenizer_fingerprint = "" if tokenizer in KINDS else self.tokenizer.fingerprint  # "": follows the text
        self.notes = [f"{len(text.tokens):,} tokens, read from {text.folder}"] if self._mapped else []
        needed = 1 + context * (batch_size + 1)
        if len(parts["train"]) < needed:
            raise UserError(
                f"the text's training part has {len(parts['train'])} tokens, too few for a batch: {batch_size} "
                f"windows of {context} take {needed}; lower data.batch_size or data.context, or give more text"
            )

    def to(self, device: torch.device) -> None:
        """Keep the tokens on `device`, unless they are mapped into memory: there may be more than it holds."""
        if not self._mapped:
            self.parts = {name: part.to(device) for name, part in self.parts.items()}
            self.borders = {name: None if one is None else one.to(device) for name, one in self.borders.items()}

    def identity(self) -> dict[str, str]:
        """Which text and tokenizer these are, for a run's state."""
        return {"tokenizer": self.tokenizer_fingerprint, "data": self.fingerprint}

    def check_identity(self, before: Mapping[str, str]) -> None:
        """Raise UserError if the text or its tokenizer is another than when `identity` gave what was `before`."""
        check_fingerprint(self.tokenizer_fingerprint, before["tokenizer"], "tokenizer: is not the one")
        check_fingerprint(self.fingerprint, before["data"])

    def training_windows(self, seed: int, rank: int, world_size: int) -> ShuffledWindows | StreamWindows:
        """The windows of the training part, in the order that was asked for."""
        reading = (self.parts["train"], self.batch_size, self.context, seed, rank, world_size)
        if self.order == "stream":
            return StreamWindows(*reading, borders=self.borders["train"], vary_context=self.vary_context)
        return ShuffledWindows(*reading, borders=self.borders["train"])


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


def windows_at(tokens: Tensor, borders: Tensor | None, places: Tensor, continues: bool) -> Window:
    """The windows of `tokens` (tokens,) at `places` (B, T)."""
    documents = None if borders is None else document_numbers(borders, places)
    return Window(tokens[places].long(), tokens[places + 1].long(), continues, documents)


class ShuffledWindows:
    """Windows in a shuffled order; each epoch cuts the text at another offset.

    borders: where documents begin, if windows are to say which document a token is of.
    """

    continues = False  # whether a batch continues the one before

    def __init__(
        self,
        tokens: Tensor,
        batch_size: int,
        context: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        *,
        borders: Tensor | None = None,
    ) -> None:
        self._tokens, self._borders, self._context, self._seed = tokens, borders, context, seed
        windows = (len(tokens) - context) // context  # whatever the offset, as many fit
        windows -= windows % batch_size  # every batch is full, so that its shape never changes
        self.order = EpochOrder(windows, batch_size, seed, rank, world_size)
        self.batches_per_epoch = self.order.batches_per_epoch
        self._steps = torch.arange(context, device=tokens.device)

    def next(self) -> Window:
        """This rank's part of the next batch."""
        index, _ = self.order.next()
        starts = index.to(self._tokens.device, non_blocking=True) * self._context + self._offset()
        return windows_at(self._tokens, self._borders, starts.unsqueeze(1) + self._steps, False)

    def _offset(self) -> int:
        return derive_seed(self._seed, "offset", self.order.epoch) % self._context

    def state_dict(self) -> dict[str, Any]:
        """Where in which epoch."""
        return self.order.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.order.load_state_dict(state)


class StreamWindows:
    """Readers side by side, each through its own stretch of the text, window after window.

    borders: as for `ShuffledWindows`. vary_context: the windows of a batch have a length of their own, drawn from a
    normal distribution around `context`, or around half of it once in twenty times (AWD-LSTM, arXiv 1708.02182,
    section 5.1), so that tokens stand at other places in each epoch. Lengths follow from seed and epoch; all of an
    epoch's are then scaled alike, by some thousandths, to end where its stretch does.
    """

    continues = True

    def __init__(
        self,
        tokens: Tensor,
        batch_size: int,
        context: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        *,
        borders: Tensor | None = None,
        vary_context: bool = False,
    ) -> None:
        if batch_size % world_size:
            raise UserError(f"data.batch_size {batch_size} can't be dealt out evenly to {world_size} ranks")
        self._tokens, self._borders, self._context, self._seed = tokens, borders, context, seed
        self._varies = vary_context
        whole = (len(tokens) - context) // batch_size // context
        self._stretch = whole * context
        self.batches_per_epoch = max(1, round(whole / MEAN_SHARE)) if vary_context else whole
        self._starts = torch.arange(batch_size, device=tokens.device)[rank::world_size].unsqueeze(1) * self._stretch
        self.epoch, self._batch = 0, 0
        self._ends = self._window_ends()

    def next(self) -> Window:
        """This rank's part of the next batch."""
        if self._batch == self.batches_per_epoch:
            self.epoch, self._batch = self.epoch + 1, 0
            self._ends = self._window_ends()
        begin, end = self._ends[self._batch : self._batch + 2].tolist()
        offset = derive_seed(self._seed, "offset", self.epoch) % self._context
        steps = torch.arange(offset + begin, offset + end, device=self._tokens.device)
        self._batch += 1
        return windows_at(self._tokens, self._borders, self._starts + steps, self._batch > 1)

    def _window_ends(self) -> Tensor:
        """(batches_per_epoch + 1,): where in a stretch the epoch's windows begin and end."""
        ends = torch.linspace(0, self._stretch, self.batches_per_epoch + 1, dtype=torch.float64)
        if self._varies:
            generator = torch.Generator().manual_seed(derive_seed(self._seed, "lengths", self.epoch))
            short = torch.rand(self.batches_per_epoch, generator=generator) < SHORT_SHARE
            means = torch.where(short, self._context / 2, float(self._context))
            lengths = torch.normal(means, LENGTH_DEVIATION, generator=generator).clamp(min=SHORTEST)
            ends[1:] = lengths.double().cumsum(0) * (self._stretch / lengths.double().sum())
        return ends.round().long()

    def state_dict(self) -> dict[str, Any]:
        """Where in which epoch."""
        return {"epoch": self.epoch, "batch": self._batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.epoch, self._batch = state["epoch"], state["batch"]
        self._ends = self._window_ends()
