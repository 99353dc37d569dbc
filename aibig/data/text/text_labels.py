"""Sentences with labels: read from tables, split, and batched by similar length. Knows no model and no loss.

B batch, T tokens of its longest sentence, S sentences of a split.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from aibig.config.settings import ExistingPath, Fraction, NonNegativeInt, PositiveInt
from aibig.data.fingerprint import fingerprint
from aibig.data.labelled import Batches, Inputs, LabelledData, class_numbers, sorted_labels
from aibig.data.order import EpochOrder
from aibig.data.splits import SplitMethod, split_rows
from aibig.data.tables.csv_file import NumberedRow, check_columns, read_cells
from aibig.data.text.sentences import Sentences, TextPreprocessor
from aibig.data.text.tokenizer import UNKNOWN_CHARACTER, make_tokenizer
from aibig.errors import UserError
from aibig.seeds import derive_seed

EVALUATION_BATCH_SIZE = 256
BATCHES_PER_POOL = 50  # sentences are sorted by length within a pool


@dataclass
class TextTable:
    """Texts and their labels, in order.

    Args:
        texts: of the rows.
        labels: of the rows.
        locations: where each row comes from, for errors.
        columns: of the texts and of the labels in the file, by name or by number from 1.
    """

    texts: Sequence[str]
    labels: Sequence[str]
    locations: Sequence[str] = ()
    columns: tuple[str | int, str | int] = (1, 2)

    def location(self, row: int) -> str:
        """Where a row comes from, for errors.

        Args:
            row: its index.
        """
        return self.locations[row] if self.locations else f"row {row}"

    def take(self, rows: Iterable[int]) -> TextTable:
        """Some of the rows.

        Args:
            rows: their indices.
        """
        indices = [int(row) for row in rows]
        texts, labels = ([column[row] for row in indices] for column in (self.texts, self.labels))
        return TextTable(texts, labels, [self.location(row) for row in indices], self.columns)


TextSplits = Mapping[str, TextTable]  # "train" at least; "validation" and "test" are split off it if missing


def read_text_labels(
    *,
    path: ExistingPath,
    validation_path: ExistingPath | None = None,
    test_path: ExistingPath | None = None,
    text: str | PositiveInt = 1,
    label: str | PositiveInt = 2,
) -> TextSplits:
    """Sentences and labels from UTF-8 tables, a row per line, tab-separated or else comma-separated.

    Tab-separated cells are taken literally, quotation marks included; comma-separated ones are CSV. The first line is a
    header if a column is chosen by name, or if its label occurs in no other line.

    Args:
        path: table of the training split.
        validation_path: table of the validation split; without it, the split is taken from the training table.
        test_path: table of the test split; without it, the split is taken from the training table.
        text: column of the sentences, by name or by number from 1.
        label: column of the labels, by name or by number from 1.

    Raises:
        UserError: a table can't be read; the error names file and line.
    """
    splits = {"train": read_table(path, text, label)}
    known = set(splits["train"].labels)
    for split, file in (("validation", validation_path), ("test", test_path)):
        if file is not None:
            splits[split] = read_table(file, text, label, known)
    return splits


def read_sentences(
    *, path: ExistingPath, text: str | PositiveInt = 1, label: str | PositiveInt = 2, lower_case: bool = True
) -> list[str]:
    """The sentences alone of a table of `text_labels`, to train a language model on what its classifier reads.

    Args:
        path: table of the sentences.
        text: column of the sentences, by name or by number from 1.
        label: column of the labels, by name or by number from 1; it only serves to recognise a header.
        lower_case: convert to lower case, as `text_labels` does.

    Raises:
        UserError: the table can't be read; the error names file and line.
    """
    sentences = read_texts(path, text, label)
    return [sentence.lower() for sentence in sentences] if lower_case else sentences


def read_table(path: str | Path, text: str | int, label: str | int, known: Collection[str] = ()) -> TextTable:
    """The sentences and labels of a table.

    Args:
        path: of the table.
        text: column of the sentences, by name or by number from 1.
        label: column of the labels, by name or by number from 1.
        known: labels that show that a line is no header.

    Raises:
        UserError: the table can't be read; the error names file and line.
    """
    rows = read_cells(path)
    columns = [find_column(path, rows[0][1], column) for column in (text, label)]
    rows = without_header(path, rows, text, label, known)
    texts, labels = (
        column_values(path, rows, name, column) for name, column in zip(("sentence", "label"), columns, strict=True)
    )
    return TextTable(texts, labels, [f"{path}:{line}" for line, _ in rows], (text, label))


def read_texts(path: str | Path, text: str | int, label: str | int, known: Collection[str] = ()) -> list[str]:
    """The sentences of a table that may lack the labels; then only a column's name shows that there is a header.

    Args:
        path: of the table.
        text: column of the sentences, by name or by number from 1.
        label: column of the labels, by name or by number from 1.
        known: labels that show that a line is no header.

    Raises:
        UserError: the table can't be read; the error names file and line.
    """
    rows = read_cells(path)
    column = find_column(path, rows[0][1], text)
    return column_values(path, without_header(path, rows, text, label, known), "sentence", column)


def without_header(
    path: str | Path, rows: list[NumberedRow], text: str | int, label: str | int, known: Collection[str]
) -> list[NumberedRow]:
    """The rows but the header: the first, if a column is chosen by name, or if its label occurs in no other row.

    Args:
        path: of the table, for errors.
        rows: of the table.
        text: column of the sentences, by name or by number from 1.
        label: column of the labels, by name or by number from 1.
        known: labels that show that a line is no header.

    Raises:
        UserError: there is nothing but a header.
    """
    if isinstance(text, int) and isinstance(label, int):
        labels = [cells[label - 1].strip() if label <= len(cells) else "" for _, cells in rows]
        if not labels[0] or labels[0] in {*labels[1:], *known}:
            return rows
    if len(rows) == 1:
        raise UserError(f"{path}: has a header and no sentences")
    return rows[1:]


def column_values(path: str | Path, rows: Sequence[NumberedRow], name: str, column: int) -> list[str]:
    """The cells of a column.

    Args:
        path: of the table, for errors.
        rows: of the table.
        name: of what the column holds, for errors.
        column: index of the column.

    Raises:
        UserError: a cell is missing or blank; the error names the line.
    """
    for line, cells in rows:
        if column >= len(cells) or not cells[column].strip():
            raise UserError(f"{path}:{line}: has no {name} (column {column + 1} of {len(cells)})")
    return [cells[column].strip() for _, cells in rows]


def find_column(path: str | Path, header: Sequence[str], column: str | int) -> int:
    """The index of a column.

    Args:
        path: of the table, for errors.
        header: cells of the first line.
        column: its name in the header, or its number from 1.

    Raises:
        UserError: there is no column of that name.
    """
    if isinstance(column, int):
        return column - 1
    names = [cell.strip() for cell in header]
    check_columns([column], names, f"{path}:1")
    return names.index(column)


@dataclass
class EncodedSplit:
    """Encoded sentences and their classes.

    Args:
        sentences: as token ids.
        targets: class indices, (S,).
        truncated: how many sentences were too long.
    """

    sentences: Sentences
    targets: Tensor
    truncated: int


class LabelledTexts(LabelledData):
    """Sentences with a class each, as padded batches: the model's inputs are tokens (B, T) and lengths (B,).

    Classes and vocabulary are those of the training split.

    Args:
        source: texts with labels by split, or a function that returns them.
        batch_size: sentences of a micro-batch, over all ranks.
        validation_fraction: share of the training table for validation; unused if there is a validation table.
        test_fraction: share of the training table for the test; unused if there is a test table.
        split: "stratified": the same share of each class in each split; "random"; "auto": stratified.
        split_seed: which sentences go into which split; independent of the training seed.
        tokenizer: what a token is, with a vocabulary made from the training split; or the path of a tokenizer.json or
            of a saved model's model.json.
        vocab_size: upper limit of the tokens of "words" and "bpe".
        lower_case: convert all text to lower case.
        max_tokens: longer sentences are truncated; the model's `context`.

    Raises:
        UserError: there is a single class, an unknown label, or a split that can't be made.
    """

    def __init__(
        self,
        source: TextSplits | Callable[[], TextSplits],
        *,
        batch_size: PositiveInt = 32,
        validation_fraction: Fraction = 0.15,
        test_fraction: Fraction = 0.2,
        split: Literal["auto", "stratified", "random"] = "auto",
        split_seed: NonNegativeInt = 0,
        tokenizer: Literal["words", "characters", "bytes", "bpe"] | ExistingPath = "words",
        vocab_size: PositiveInt = 10_000,
        lower_case: bool = True,
        max_tokens: PositiveInt = 256,
    ) -> None:
        tables = source() if callable(source) else source
        train = tables["train"]
        self.batch_size, self.columns = batch_size, train.columns
        self.class_names = sorted_labels(train.labels)
        if len(self.class_names) == 1:
            raise UserError(f"{train.location(0)}: all labels are {self.class_names[0]!r}; give other classes too")
        tables = with_missing_splits(tables, self.class_names, validation_fraction, test_fraction, split, split_seed)
        text = "\n".join(tables["train"].texts)
        if tokenizer == "characters":
            text += UNKNOWN_CHARACTER
        text = text.lower() if lower_case else text
        self.preprocessor = TextPreprocessor(make_tokenizer(tokenizer, text, vocab_size), max_tokens, lower_case)
        self.splits = {name: self._encode(table) for name, table in tables.items()}
        encoded = self.splits["train"]
        self.fingerprint = fingerprint(encoded.sentences.tokens, encoded.sentences.lengths, encoded.targets)

    def _encode(self, table: TextTable) -> EncodedSplit:
        sentences, truncated = self.preprocessor.encode(table.texts)
        targets = class_numbers(table.labels, self.class_names, table.location)
        return EncodedSplit(sentences, torch.from_numpy(targets), truncated)

    @property
    def notes(self) -> list[str]:
        """How many sentences and tokens there are, how many were truncated, and which splits lack a class."""
        limit, vocab_size = self.preprocessor.max_tokens, self.preprocessor.tokenizer.vocab_size
        truncated = [
            f"the {name} split has {split.truncated:,} sentences of more than {limit} tokens: truncated"
            for name, split in self.splits.items()
            if split.truncated
        ]
        return [
            f"sentences: {self.sizes}; vocabulary of {vocab_size:,} tokens",
            *truncated,
            *self.absent_classes("sentence"),
        ]

    def to(self, device: torch.device) -> None:
        """Keep the tokens on a device."""
        for split in self.splits.values():
            split.sentences, split.targets = split.sentences.to(device), split.targets.to(device)

    def model_settings(self) -> dict[str, Any]:
        """vocab_size, and context: no sentence is longer."""
        return {"vocab_size": self.preprocessor.tokenizer.vocab_size, "context": self.preprocessor.max_tokens}

    def training_batches(self, seed: int, rank: int, world_size: int) -> TextBatches:
        """Padded batches of sentences of similar length."""
        train = self.splits["train"]
        return TextBatches(train, LengthGroupedOrder(train.sentences.lengths, self.batch_size, seed, rank, world_size))

    def targets(self, split: str) -> Tensor:
        """(S,) class indices."""
        return self.splits[split].targets

    def evaluation_batches(self, split: str) -> Iterator[tuple[Inputs, Tensor]]:
        """All sentences of a split in order, `EVALUATION_BATCH_SIZE` at a time."""
        encoded = self.splits[split]
        for index in torch.arange(len(encoded.targets)).split(EVALUATION_BATCH_SIZE):
            yield encoded.sentences.batch(index), encoded.targets[index.to(encoded.targets.device)]

    def inference_config(self) -> dict[str, Any]:
        """The preprocessor, and the columns of the sentences and labels in a table."""
        columns = list(self.columns)
        return {"predictor": "text_classifier", "preprocessor": self.preprocessor.to_dict(), "columns": columns}


class TextBatches(Batches):
    """Padded batches of sentences of similar length.

    Args:
        split: that they are from.
        order: of its sentences.
    """

    def __init__(self, split: EncodedSplit, order: LengthGroupedOrder) -> None:
        self._split, self._order = split, order
        self.per_epoch = order.batches_per_epoch

    def next(self) -> tuple[Inputs, Tensor, int]:
        """(tokens (B, T), lengths (B,)), targets (B,), and the size of the whole batch."""
        index, size = self._order.next()
        targets = self._split.targets
        return self._split.sentences.batch(index), targets[index.to(targets.device, non_blocking=True)], size

    def state_dict(self) -> dict[str, Any]:
        """The position in the order."""
        return self._order.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a position."""
        self._order.load_state_dict(state)


class LengthGroupedOrder(EpochOrder):
    """A random order in which a batch has sentences of similar length, so that there is little padding.

    The shuffled sentences are divided into pools of `BATCHES_PER_POOL` batches. Each pool is sorted by length and
    divided into batches, and the batches of all pools are shuffled. Sentences that do not fill a batch come last.

    Args:
        lengths: tokens of each sentence, (S,).
        batch_size: sentences of a batch, over all ranks.
        seed: of the order.
        rank: whose part of each batch.
        world_size: number of ranks.
    """

    def __init__(self, lengths: Tensor, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self._lengths = lengths.cpu()
        super().__init__(len(lengths), batch_size, seed, rank, world_size)

    def _shuffled(self) -> Tensor:
        order = super()._shuffled()
        full = len(order) - len(order) % self._batch_size
        pools = order[:full].split(BATCHES_PER_POOL * self._batch_size)
        by_length = torch.cat([pool[self._lengths[pool].argsort(stable=True)] for pool in pools])
        batches = by_length.view(-1, self._batch_size)
        generator = torch.Generator().manual_seed(derive_seed(self._seed, "batches", self.epoch))
        shuffled = batches[torch.randperm(len(batches), generator=generator)]
        return torch.cat([shuffled.flatten(), order[full:]])


def with_missing_splits(
    tables: TextSplits,
    class_names: Sequence[str],
    validation_fraction: float,
    test_fraction: float,
    split: SplitMethod,
    split_seed: int,
) -> dict[str, TextTable]:
    """All splits: "validation" and "test" are split off "train" where they are missing.

    Args:
        tables: by split.
        class_names: of the labels.
        validation_fraction: of the training table.
        test_fraction: of the training table.
        split: method, see `split_rows`.
        split_seed: of the random choice.
    """
    train = tables["train"]
    fractions = {"validation": validation_fraction, "test": test_fraction}
    missing = {name: 0.0 if name in tables else fraction for name, fraction in fractions.items()}
    classes = class_numbers(train.labels, class_names, train.location)
    rows = split_rows(
        *(len(classes), missing["validation"], missing["test"], split_seed),
        method=split,
        classes=classes,
        class_names=class_names,
    )
    return {name: train.take(index) for name, index in rows.items()} | {
        name: tables[name] for name in fractions if name in tables
    }
