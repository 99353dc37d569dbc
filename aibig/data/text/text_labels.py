"""Sentences with labels: read from tables, split, and drawn in batches of similar length. Knows no model and no loss.

B is the batch size, T the tokens of its longest sentence.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aibig.config.settings import ExistingPath, Fraction, NonNegativeInt, PositiveInt
from aibig.data.fingerprint import fingerprint
from aibig.data.labelled import Batches, Inputs, LabelledData
from aibig.data.order import EpochOrder
from aibig.data.splits import Split, split_rows
from aibig.data.text.sentences import Encoder, Sentences
from aibig.data.text.tokenizer import UNKNOWN_CHARACTER, make_tokenizer
from aibig.errors import UserError, nearest
from aibig.files import read_utf8
from aibig.seeds import derive_seed

SENTENCES_AT_ONCE = 256  # of an evaluation
BATCHES_A_POOL = 50  # within which sentences are put together by length


@dataclass
class TextTable:
    """Texts and their labels, in order. places: where each one stands, for errors. columns: those they stood in."""

    texts: Sequence[str]
    labels: Sequence[str]
    places: Sequence[str] = ()
    columns: tuple[str | int, str | int] = (1, 2)

    def place(self, row: int) -> str:
        """Where a row stands."""
        return self.places[row] if self.places else f"row {row}"

    def take(self, rows: Iterable[int]) -> TextTable:
        """Some of the rows."""
        numbers = [int(row) for row in rows]
        texts, labels = ([column[row] for row in numbers] for column in (self.texts, self.labels))
        return TextTable(texts, labels, [self.place(row) for row in numbers], self.columns)


Parts = Mapping[str, TextTable]  # "train" at least; "validation" and "test" are split off where they are missing


def read_text_labels(
    *,
    path: ExistingPath,
    validation_path: ExistingPath | None = None,
    test_path: ExistingPath | None = None,
    text: str | PositiveInt = 1,
    label: str | PositiveInt = 2,
) -> Parts:
    """Sentences and labels from UTF-8 tables: a line each, its columns divided by tabs, or else by commas.

    Between tabs everything is text, quotation marks too; between commas they enclose cells, as in CSV files. text,
    label: columns by name, or by number from 1. The first line is a header if a column is chosen by name, or if its
    label occurs in no other line. validation_path, test_path: tables of those parts; what is not given is split off.

    Raises UserError naming file and line.
    """
    parts = {"train": read_table(path, text, label)}
    known = set(parts["train"].labels)
    for part, file in (("validation", validation_path), ("test", test_path)):
        if file is not None:
            parts[part] = read_table(file, text, label, known)
    return parts


def read_sentences(
    *, path: ExistingPath, text: str | PositiveInt = 1, label: str | PositiveInt = 2, lower_case: bool = True
) -> list[str]:
    """The sentences alone of a table as `read_text_labels` reads it, for a language model of what its classifier reads.

    lower_case: as the classifier reads them. Raises UserError naming file and line.
    """
    sentences = read_texts(path, text, label)
    return [one.lower() for one in sentences] if lower_case else sentences


def read_table(path: str | Path, text: str | int, label: str | int, known: Collection[str] = ()) -> TextTable:
    """The sentences and labels of one table; see `read_text_labels`. known: labels that are none of a header's."""
    rows = read_rows(path)
    columns = [find_column(path, rows[0][1], chosen) for chosen in (text, label)]
    rows = without_header(path, rows, text, label, known)
    texts, labels = (
        column_of(path, rows, what, column) for what, column in zip(("sentence", "label"), columns, strict=True)
    )
    return TextTable(texts, labels, [f"{path}:{line}" for line, _ in rows], (text, label))


def read_texts(path: str | Path, text: str | int, label: str | int, known: Collection[str] = ()) -> list[str]:
    """The sentences alone, of a table that may lack the labels; without those, a header is only known by name."""
    rows = read_rows(path)
    column = find_column(path, rows[0][1], text)
    return column_of(path, without_header(path, rows, text, label, known), "sentence", column)


Row = tuple[int, list[str]]  # line number, cells


def without_header(
    path: str | Path, rows: list[Row], text: str | int, label: str | int, known: Collection[str]
) -> list[Row]:
    """The rows but a header: the first row, if a column is chosen by name, or if its label is no other row's."""
    if isinstance(text, int) and isinstance(label, int):
        labels = [cells[label - 1].strip() if label <= len(cells) else "" for _, cells in rows]
        if not labels[0] or labels[0] in {*labels[1:], *known}:
            return rows
    if len(rows) == 1:
        raise UserError(f"{path}: has a header and no sentences")
    return rows[1:]


def column_of(path: str | Path, rows: Sequence[Row], what: str, column: int) -> list[str]:
    """The cells of a column. Raises UserError naming the line where one is missing or blank."""
    for line, cells in rows:
        if column >= len(cells) or not cells[column].strip():
            raise UserError(f"{path}:{line}: has no {what} (column {column + 1} of {len(cells)})")
    return [cells[column].strip() for _, cells in rows]


def read_rows(path: str | Path) -> list[Row]:
    """(line number, cells) of each line of a table that is not blank. Raises UserError."""
    content = read_utf8(path)
    lines = content.split("\n")
    if "\t" in next(line for line in lines if line.strip()):
        return [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line.strip()]
    reader = csv.reader(io.StringIO(content))
    try:
        return [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: is not a line of a CSV file: {error}") from None


def find_column(path: str | Path, first: Sequence[str], chosen: str | int) -> int:
    """The index of a column by its name in the first line, or by its number from 1. Raises UserError."""
    if isinstance(chosen, int):
        return chosen - 1
    names = [cell.strip() for cell in first]
    if chosen not in names:
        raise UserError(
            f"{path}:1: has no column {chosen!r}{nearest(chosen, names) or '; it has: ' + ', '.join(names)}"
        )
    return names.index(chosen)


@dataclass
class Part:
    """Encoded sentences and the numbers (S,) of their classes."""

    sentences: Sentences
    targets: Tensor
    cut: int  # how many sentences were too long


class LabelledTexts(LabelledData):
    """Sentences with a class each, as padded batches: the model's arguments are tokens (B, T) and lengths (B,).

    source: labelled texts by part, or a function that returns them. Classes and vocabulary are those of the training
    part. batch_size: sentences of a micro-batch over all ranks. validation_fraction, test_fraction: what is split
    off the training part where there is no such part; by which rule says split, see `split_rows`. split_seed: which
    sentences; the same for every seed of training. tokenizer, vocab_size: see `make_tokenizer`. lower_case: read all
    text so. max_tokens: longer sentences are cut.

    Raises UserError for a single class, an unknown label, or parts that can't be split off.
    """

    def __init__(
        self,
        source: Parts | Callable[[], Parts],
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
        given = source() if callable(source) else source
        self.batch_size = batch_size
        self.class_names = sorted_labels(given["train"].labels)
        if len(self.class_names) == 1:
            raise UserError(
                f"{given['train'].place(0)}: all labels are {self.class_names[0]!r}; give other classes too"
            )
        texts = split_parts(given, self.class_names, validation_fraction, test_fraction, split, split_seed)
        training = "\n".join(texts["train"].texts)
        if tokenizer == "characters":
            training += UNKNOWN_CHARACTER
        made = make_tokenizer(tokenizer, training.lower() if lower_case else training, vocab_size)
        self.encoder = Encoder(made, max_tokens, lower_case)
        self.parts = {name: self._encode(one) for name, one in texts.items()}
        self.columns = given["train"].columns
        train = self.parts["train"]
        self.fingerprint = fingerprint(train.sentences.tokens, train.sentences.lengths, train.targets)

    def _encode(self, texts: TextTable) -> Part:
        sentences, cut = self.encoder.encode(texts.texts)
        return Part(sentences, torch.from_numpy(class_numbers(texts, self.class_names)), cut)

    @property
    def notes(self) -> list[str]:
        """How many sentences and tokens there are, what was cut, and which classes a part is without."""
        lines = [f"sentences: {self.sizes}; {self.encoder.tokenizer.vocab_size:,} different tokens"]
        for name, part in self.parts.items():
            if part.cut:
                lines.append(
                    f"the {name} part has {part.cut:,} sentences of more than {self.encoder.max_tokens} tokens: cut"
                )
        return lines + self.absent_classes("sentence")

    def to(self, device: torch.device) -> None:
        """Keep the tokens on `device`."""
        for part in self.parts.values():
            part.sentences, part.targets = part.sentences.to(device), part.targets.to(device)

    def model_settings(self) -> dict[str, Any]:
        """vocab_size, and the context: no sentence is longer."""
        return {"vocab_size": self.encoder.tokenizer.vocab_size, "context": self.encoder.max_tokens}

    def training_batches(self, seed: int, rank: int, world_size: int) -> TextBatches:
        """Padded batches of sentences of similar length."""
        part = self.parts["train"]
        return TextBatches(part, SimilarLengths(part.sentences.lengths, self.batch_size, seed, rank, world_size))

    def targets(self, split: str) -> Tensor:
        """(sentences,) class numbers of a part."""
        return self.parts[split].targets

    def evaluation_batches(self, split: str) -> Iterator[tuple[Inputs, Tensor]]:
        """All of a part, `SENTENCES_AT_ONCE` at a time."""
        part = self.parts[split]
        for index in torch.arange(len(part.targets)).split(SENTENCES_AT_ONCE):
            yield part.sentences.batch(index), part.targets[index.to(part.targets.device)]

    def inference_facts(self) -> dict[str, Any]:
        """How text becomes tokens, and the columns that sentences and labels stood in."""
        return {"predictor": "texts", "encoder": self.encoder.to_dict(), "columns": list(self.columns)}


class TextBatches(Batches):
    """Padded batches of sentences of similar length."""

    def __init__(self, part: Part, order: SimilarLengths) -> None:
        self._part, self._order = part, order
        self.per_epoch = order.batches_per_epoch

    def next(self) -> tuple[Inputs, Tensor, int]:
        """(tokens (B, T), lengths (B,)) and targets (B,)."""
        index, size = self._order.next()
        targets = self._part.targets
        return self._part.sentences.batch(index), targets[index.to(targets.device, non_blocking=True)], size

    def state_dict(self) -> dict[str, Any]:
        """Where in which epoch."""
        return self._order.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._order.load_state_dict(state)


class SimilarLengths(EpochOrder):
    """An epoch's order in which a batch holds sentences of similar length, so that little of it is padding.

    The shuffled sentences are divided into pools of `BATCHES_A_POOL` batches, those of a pool put in the order of
    their lengths and cut into batches, and the batches of all pools shuffled. What does not fill a batch comes last.
    """

    def __init__(self, lengths: Tensor, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self._lengths = lengths.cpu()
        super().__init__(len(lengths), batch_size, seed, rank, world_size)

    def _shuffled(self) -> Tensor:
        order = super()._shuffled()
        whole = len(order) - len(order) % self._batch_size
        pools = order[:whole].split(BATCHES_A_POOL * self._batch_size)
        by_length = torch.cat([pool[self._lengths[pool].argsort(stable=True)] for pool in pools])
        batches = by_length.view(-1, self._batch_size)
        generator = torch.Generator().manual_seed(derive_seed(self._seed, "batches", self.epoch))
        shuffled = batches[torch.randperm(len(batches), generator=generator)]
        return torch.cat([shuffled.flatten(), order[whole:]])


def sorted_labels(labels: Sequence[str]) -> list[str]:
    """The different labels: by value if all are whole numbers, else by the alphabet."""
    names = sorted(set(labels))
    try:
        return sorted(names, key=int)
    except ValueError:
        return names


def class_numbers(texts: TextTable, class_names: Sequence[str]) -> NDArray[np.int64]:
    """(rows,) class numbers. Raises UserError for a label that is not among them."""
    numbers = {name: number for number, name in enumerate(class_names)}
    for row, label in enumerate(texts.labels):
        if label not in numbers:
            known = ", ".join(repr(one) for one in class_names)
            raise UserError(f"{texts.place(row)}: the label {label!r} is not among those of training: {known}")
    return np.array([numbers[label] for label in texts.labels], dtype=np.int64)


def split_parts(
    given: Parts,
    class_names: Sequence[str],
    validation_fraction: float,
    test_fraction: float,
    split: Split,
    split_seed: int,
) -> dict[str, TextTable]:
    """The parts as given; those that are missing are split off "train"."""
    train = given["train"]
    fractions = {"validation": validation_fraction, "test": test_fraction}
    wanted = {name: 0.0 if name in given else fraction for name, fraction in fractions.items()}
    classes = class_numbers(train, class_names)
    rows = split_rows(
        *(len(classes), wanted["validation"], wanted["test"], split_seed),
        split=split,
        classes=classes,
        class_names=class_names,
    )
    return {name: train.take(index) for name, index in rows.items()} | {
        name: given[name] for name in fractions if name in given
    }
