"""The classes of texts: one sentence, or a file of them. Knows no task and no training data.

N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from aibig.data.text.sentences import Encoder
from aibig.data.text.text_labels import class_numbers, read_table, read_texts
from aibig.errors import UserError
from aibig.files import read_utf8
from aibig.inference.named_rows import named_rows
from aibig.layers.modes import evaluating
from aibig.metrics.outcomes import ClassificationOutcome
from aibig.pretrained.model_folder import inference_device

TEXTS_AT_ONCE = 256
TABLES = (".tsv", ".csv")


class TextsPredictor:
    """A model with its tokenizer and its classes' names.

    model: scores (B, C) of tokens (B, T) and lengths (B,). facts: what model.json holds.
    """

    def __init__(self, model: nn.Module, facts: dict[str, Any]) -> None:
        self.device = inference_device()
        self.model = model.to(self.device)
        self.encoder = Encoder.from_dict(facts["encoder"])
        self.class_names: list[str] = facts["class_names"]
        self.note = ""  # what there is to say of the latest texts
        self.text, self.label = facts["columns"]  # of a table like the one of training

    def predict(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """texts (N,) -> probabilities (N, C), in batches of similar length.

        Raises UserError for no texts, and for outputs that are not finite.
        """
        if not len(texts):
            raise UserError("there are no texts to predict")
        sentences, cut = self.encoder.encode(texts)
        self.note = (
            f"{cut:,} of {len(texts):,} texts have more than {self.encoder.max_tokens} tokens: cut" if cut else ""
        )
        sentences = sentences.to(self.device)
        probabilities = torch.empty(len(texts), len(self.class_names))
        with evaluating(self.model):
            for index in sentences.lengths.argsort().split(TEXTS_AT_ONCE):
                probabilities[index.cpu()] = self.model(*sentences.batch(index)).float().softmax(1).cpu()
        predicted: NDArray[np.float32] = probabilities.numpy()
        if not np.isfinite(predicted).all():
            raise UserError("the model's outputs are not finite: it diverged in training")
        return predicted

    def predict_file(self, source: str | Path) -> Iterator[dict[str, Any]]:
        """A dict of label and probabilities for a sentence, each line of a .txt file, or each row of a table.

        A table is tab- or comma-separated, as in training; it needs no labels. Raises UserError naming file and line.
        """
        yield from named_rows(self.predict(self._read(source)), self.class_names)

    def labelled(self, path: str | Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Probabilities (N, C) and true class numbers (N,) of a table as in training.

        Raises UserError naming file and line, also for a label that training did not have.
        """
        table = read_table(path, self.text, self.label, self.class_names)
        return self.predict(table.texts), class_numbers(table, self.class_names)

    def outcome(self, path: str | Path) -> ClassificationOutcome:
        """What an evaluation on a table as in training sees."""
        return ClassificationOutcome(*self.labelled(path), self.class_names)

    def _read(self, source: str | Path) -> list[str]:
        path = Path(source)
        if path.suffix in TABLES and path.is_file():
            return read_texts(path, self.text, self.label, self.class_names)
        if path.suffix == ".txt" and path.is_file():
            return [line for line in read_utf8(path).split("\n") if line.strip()]
        if path.suffix in (*TABLES, ".txt") and " " not in str(source):
            raise UserError(f"{source}: no such file; give a .txt, .tsv or .csv file, or a sentence")
        if not str(source).strip():
            raise UserError("the sentence is empty; give at least one word")
        return [str(source)]
