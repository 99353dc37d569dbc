"""A text as token ids: split for training and evaluation, and read in windows. Knows no model and no loss.

B windows of a batch, T tokens of a window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from aibig.config.settings import ExistingPath, Fraction, PositiveInt
from aibig.data.fingerprint import check_fingerprint, fingerprint
from aibig.data.order import EpochOrder
from aibig.data.text.documents import Documents, InMemoryDocuments, TextFiles
from aibig.data.text.token_files import tokenize
from aibig.data.text.tokenizer import KINDS, Tokenizer
from aibig.data.text.tokens import document_ids_at
from aibig.errors import UserError
from aibig.seeds import derive_seed

# AWD-LSTM, arXiv 1708.02182, section 5.1 and its code: p = 0.95, s = 5, at least 5 tokens
SHORT_SHARE, LENGTH_DEVIATION, SHORTEST = 0.05, 5.0, 5
MEAN_SHARE = 1 - SHORT_SHARE / 2  # mean length of a window, as a fraction of the context


def read_text(*, path: ExistingPath, field: str = "text") -> TextFiles:
    """The documents of a UTF-8 text file, of a .jsonl or .parquet file, or of all such files in a folder.

    A .jsonl file has a document per line, a .parquet file one per row; any other file is one document. A folder's
    files (.txt, .jsonl, .parquet), those of its subfolders included, are read in the order of their paths.

    Args:
        path: file, or folder of files.
        field: field of a .jsonl line, or column of a .parquet file, that holds the text.

    Raises:
        UserError: something can't be read; the error names file and line.
    """
    return TextFiles(path, field)


class TextData:
    """A text as token ids in three consecutive splits: train, validation, test.

    Between two documents stands the tokenizer's end-of-text token, or a blank line if it has none.

    Args:
        source: a text, several texts, `Documents`, or a function that returns any of these.
        batch_size: windows of a micro-batch, over all ranks.
        context: tokens of a window.
        validation_fraction: share of the tokens for validation; they precede the test split.
        test_fraction: share of the tokens for the test, at the end of the text.
        tokenizer: what a token is, with a vocabulary made from the text; or the path of a tokenizer.json or of a saved
            model's model.json. Only "bpe" has an end-of-text token, if there is more than one document.
        vocab_size: upper limit of the tokens of "words" and "bpe".
        documents: "concatenated": they are read as one text; "apart": a token attends to its own document only, in
            models that support it.
        cache: folder for the token ids of large texts; by default `.aibig` beside the text, or the user's cache folder.
        order: "shuffled": windows in random order, cut at another offset in each epoch; "stream": batch_size streams
            side by side, each window continuing the one before, for models that carry state.
        vary_context: windows of a stream have random lengths around `context` (AWD-LSTM, arXiv 1708.02182, section
            5.1).

    Raises:
        UserError: the text is too short, or settings contradict each other.
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
        documents: Literal["concatenated", "apart"] = "concatenated",
        cache: str | None = None,
        order: Literal["shuffled", "stream"] = "shuffled",
        vary_context: bool = False,
    ) -> None:
        if validation_fraction + test_fraction >= 1:
            raise UserError("validation_fraction and test_fraction together leave nothing to train on")
        if vary_context and order != "stream":
            raise UserError("vary_context is for a stream; set data.order=stream, or leave it out")
        texts = source() if callable(source) else source
        texts = texts if isinstance(texts, Documents) else InMemoryDocuments(texts)
        text = tokenize(texts, tokenizer, vocab_size, cache)
        self.batch_size, self.context, self.order, self.vary_context = batch_size, context, order, vary_context
        self.tokenizer: Tokenizer = text.tokenizer
        train_end = int(len(text.tokens) * (1.0 - validation_fraction - test_fraction))
        test_start = int(len(text.tokens) * (1.0 - test_fraction))
        ranges = {"train": (0, train_end), "validation": (train_end, test_start), "test": (test_start, None)}
        splits = {name: text.tokens[start:end] for name, (start, end) in ranges.items()}
        self.splits = {name: tokens for name, tokens in splits.items() if len(tokens) > 1}
        self.boundaries = {
            name: text.boundaries_within(ranges[name][0], len(tokens)) if documents == "apart" else None
            for name, tokens in self.splits.items()
        }
        self._is_memory_mapped = text.folder is not None
        train = splits["train"]
        self.fingerprint = f"{text.digest} to {train_end}" if self._is_memory_mapped else fingerprint(train)
        self.tokenizer_fingerprint = "" if tokenizer in KINDS else self.tokenizer.fingerprint  # "": follows the text
        self.notes = [f"{len(text.tokens):,} tokens, read from {text.folder}"] if self._is_memory_mapped else []
        needed = 1 + context * (batch_size + 1)
        if len(train) < needed:
            raise UserError(
                f"the text's training split has {len(train)} tokens, too few for a batch: {batch_size} windows of "
                f"{context} take {needed}; lower data.batch_size or data.context, or give more text"
            )

    def to(self, device: torch.device) -> None:
        """Keep the tokens on a device, unless they are memory-mapped: there may be more than it can hold.

        Args:
            device: where they go.
        """
        if not self._is_memory_mapped:
            self.splits = {name: tokens.to(device) for name, tokens in self.splits.items()}
            self.boundaries = {
                name: None if boundaries is None else boundaries.to(device)
                for name, boundaries in self.boundaries.items()
            }

    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of text and tokenizer, for the state of a run."""
        return {"tokenizer": self.tokenizer_fingerprint, "data": self.fingerprint}

    def check_fingerprints(self, state: Mapping[str, str]) -> None:
        """Check that a run is resumed with the same text and tokenizer.

        Args:
            state: state with the result of `fingerprints`.

        Raises:
            UserError: a fingerprint differs.
        """
        check_fingerprint(self.tokenizer_fingerprint, state["tokenizer"], "tokenizer: is not the one")
        check_fingerprint(self.fingerprint, state["data"])

    def training_windows(self, seed: int, rank: int, world_size: int) -> ShuffledWindows | StreamWindows:
        """The windows of the training split, in the order of the setting `order`.

        Args:
            seed: of the order.
            rank: whose part of each batch.
            world_size: number of ranks.
        """
        arguments = (self.splits["train"], self.batch_size, self.context, seed, rank, world_size)
        if self.order == "stream":
            return StreamWindows(*arguments, boundaries=self.boundaries["train"], vary_context=self.vary_context)
        return ShuffledWindows(*arguments, boundaries=self.boundaries["train"])


def split_into_windows(tokens: Tensor, context: int) -> tuple[Tensor, Tensor, Tensor]:
    """A text in windows that do not overlap. Every token but the first is a target once.

    Args:
        tokens: ids of the text, (tokens,).
        context: T, tokens of a window.

    Returns:
        Inputs (N, T) and targets (N, T) of N whole windows; the remaining R + 1 tokens, whose first is no target.
    """
    count = (len(tokens) - 1) // context
    end, shape = count * context, (count, context)
    return tokens[:end].view(shape), tokens[1 : end + 1].view(shape), tokens[end:]


class Window(NamedTuple):
    """This rank's part of a batch of windows.

    Args:
        tokens: ids, (B, T).
        targets: the ids that follow, (B, T).
        continues_previous: whether each window continues that of the previous batch.
        document_ids: of the document that each token is in, (B, T); None where documents are concatenated.
    """

    tokens: Tensor
    targets: Tensor
    continues_previous: bool
    document_ids: Tensor | None = None


def windows_at(tokens: Tensor, boundaries: Tensor | None, positions: Tensor, continues_previous: bool) -> Window:
    """The windows at some positions of a text.

    Args:
        tokens: ids of the text, (tokens,).
        boundaries: where documents begin, if they are read apart.
        positions: of the windows' tokens, (B, T).
        continues_previous: whether each window continues that of the previous batch.
    """
    document_ids = None if boundaries is None else document_ids_at(boundaries, positions)
    return Window(tokens[positions].long(), tokens[positions + 1].long(), continues_previous, document_ids)


class ShuffledWindows:
    """Windows in random order, each token once an epoch; each epoch splits the text at another offset.

    Args:
        tokens: ids of the text, (tokens,).
        batch_size: windows of a batch, over all ranks.
        context: T, tokens of a window.
        seed: of the order.
        rank: whose part of each batch.
        world_size: number of ranks.
        boundaries: where documents begin, if they are read apart.
    """

    is_stateful = False  # whether batches continue the previous one, so that a model can carry its state

    def __init__(
        self,
        tokens: Tensor,
        batch_size: int,
        context: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        *,
        boundaries: Tensor | None = None,
    ) -> None:
        self._tokens, self._boundaries, self._context, self._seed = tokens, boundaries, context, seed
        windows = (len(tokens) - context) // context  # so many fit at every offset
        windows -= windows % batch_size  # every batch is full, so that its shape never changes
        self.order = EpochOrder(windows, batch_size, seed, rank, world_size)
        self.batches_per_epoch = self.order.batches_per_epoch
        self._steps = torch.arange(context, device=tokens.device)

    def next(self) -> Window:
        """This rank's part of the next batch."""
        index, _ = self.order.next()
        starts = index.to(self._tokens.device, non_blocking=True) * self._context + self._offset()
        return windows_at(self._tokens, self._boundaries, starts.unsqueeze(1) + self._steps, False)

    def _offset(self) -> int:
        return derive_seed(self._seed, "offset", self.order.epoch) % self._context

    def state_dict(self) -> dict[str, Any]:
        """The position in the order."""
        return self.order.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a position.

        Args:
            state: from `state_dict`.
        """
        self.order.load_state_dict(state)


class StreamWindows:
    """Streams side by side, each through a segment of its own of the text, window after window.

    With `vary_context` the windows of a batch have a random length: normally distributed around `context`, or around
    half of it for 5% of the batches (AWD-LSTM, arXiv 1708.02182, section 5.1), so that windows begin elsewhere in each
    epoch. The lengths follow from seed and epoch; they are scaled, by some thousandths, to fill the segment.

    Args:
        tokens: ids of the text, (tokens,).
        batch_size: streams, over all ranks.
        context: T, tokens of a window.
        seed: of the offsets and lengths.
        rank: whose streams.
        world_size: number of ranks.
        boundaries: where documents begin, if they are read apart.
        vary_context: random window lengths.

    Raises:
        UserError: the ranks can't share the streams evenly.
    """

    is_stateful = True

    def __init__(
        self,
        tokens: Tensor,
        batch_size: int,
        context: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        *,
        boundaries: Tensor | None = None,
        vary_context: bool = False,
    ) -> None:
        if batch_size % world_size:
            raise UserError(f"data.batch_size {batch_size} is not a multiple of the {world_size} ranks")
        self._tokens, self._boundaries, self._context, self._seed = tokens, boundaries, context, seed
        self._vary_context = vary_context
        windows = (len(tokens) - context) // batch_size // context
        self._segment = windows * context
        self.batches_per_epoch = max(1, round(windows / MEAN_SHARE)) if vary_context else windows
        self._starts = torch.arange(batch_size, device=tokens.device)[rank::world_size].unsqueeze(1) * self._segment
        self.epoch, self._batch = 0, 0
        self._ends = self._window_ends()

    def next(self) -> Window:
        """This rank's part of the next batch."""
        if self._batch == self.batches_per_epoch:
            self.epoch, self._batch = self.epoch + 1, 0
            self._ends = self._window_ends()
        start, end = self._ends[self._batch : self._batch + 2].tolist()
        offset = derive_seed(self._seed, "offset", self.epoch) % self._context
        steps = torch.arange(offset + start, offset + end, device=self._tokens.device)
        self._batch += 1
        return windows_at(self._tokens, self._boundaries, self._starts + steps, self._batch > 1)

    def _window_ends(self) -> Tensor:
        """(batches_per_epoch + 1,): where the epoch's windows begin and end within a segment."""
        ends = torch.linspace(0, self._segment, self.batches_per_epoch + 1, dtype=torch.float64)
        if self._vary_context:
            generator = torch.Generator().manual_seed(derive_seed(self._seed, "lengths", self.epoch))
            is_short = torch.rand(self.batches_per_epoch, generator=generator) < SHORT_SHARE
            means = torch.where(is_short, self._context / 2, float(self._context))
            lengths = torch.normal(means, LENGTH_DEVIATION, generator=generator).clamp(min=SHORTEST)
            ends[1:] = lengths.double().cumsum(0) * (self._segment / lengths.double().sum())
        return ends.round().long()

    def state_dict(self) -> dict[str, Any]:
        """The epoch, and the batch within it."""
        return {"epoch": self.epoch, "batch": self._batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a position.

        Args:
            state: from `state_dict`.
        """
        self.epoch, self._batch = state["epoch"], state["batch"]
        self._ends = self._window_ends()
