"""Predicts the classes of texts: a sentence, or a file of them. Knows no task and no training data.

N texts, C classes, B texts of a batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from aibig.data.labelled import class_numbers
from aibig.data.text.sentences import TextPreprocessor
from aibig.data.text.text_labels import read_table, read_texts
from aibig.errors import UserError
from aibig.files import read_utf8
from aibig.inference.named_rows import named_rows
from aibig.layers.utils.modes import eval_mode
from aibig.metrics.outcomes import ClassificationOutcome
from aibig.pretrained.model_folder import inference_device

BATCH_SIZE = 256
TABLES = (".tsv", ".csv")


class TextClassifier:
    """A model with its preprocessor and class names.

    Args:
        model: module that returns logits (B, C) for tokens (B, T) and lengths (B,).
        inference_config: contents of model.json.

    Attributes:
        note: a remark about the latest texts, such as that some were truncated; "" for none.
    """

    def __init__(self, model: nn.Module, inference_config: dict[str, Any]) -> None:
        self.device = inference_device()
        self.model = model.to(self.device)
        self.preprocessor = TextPreprocessor.from_dict(inference_config["preprocessor"])
        self.class_names: list[str] = inference_config["class_names"]
        self.note = ""
        self._text_column, self._label_column = inference_config["columns"]

    def predict(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Class probabilities, (N, C), computed in batches of similar length.

        Args:
            texts: texts, (N,).

        Raises:
            UserError: there are no texts, or the model's outputs are not finite.
        """
        if not len(texts):
            raise UserError("there are no texts to predict")
        sentences, truncated = self.preprocessor.encode(texts)
        remark = f"texts have more than {self.preprocessor.max_tokens} tokens: truncated"
        self.note = f"{truncated:,} of {len(texts):,} {remark}" if truncated else ""
        sentences = sentences.to(self.device)
        probabilities = torch.empty(len(texts), len(self.class_names))
        with eval_mode(self.model):
            for index in sentences.lengths.argsort().split(BATCH_SIZE):
                probabilities[index.cpu()] = self.model(*sentences.batch(index)).float().softmax(1).cpu()
        predicted: NDArray[np.float32] = probabilities.numpy()
        if not np.isfinite(predicted).all():
            raise UserError("the model's outputs are not finite: it diverged in training")
        return predicted

    def predict_file(self, source: str | Path) -> Iterator[dict[str, Any]]:
        """A dict of label and probabilities for each text.

        Args:
            source: a sentence, a .txt file with a sentence per line, or a table as in training; it needs no labels.

        Raises:
            UserError: it can't be read; the error names file and line.
        """
        yield from named_rows(self.predict(self._read(source)), self.class_names)

    def predictions_and_targets(self, path: str | Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Class probabilities (N, C) and true class indices (N,) of a table.

        Args:
            path: file of a table as in training.

        Raises:
            UserError: it can't be read, or has an unknown label; the error names file and line.
        """
        table = read_table(path, self._text_column, self._label_column, self.class_names)
        return self.predict(table.texts), class_numbers(table.labels, self.class_names, table.location)

    def outcome(self, path: str | Path) -> ClassificationOutcome:
        """Predictions and true classes of a table.

        Args:
            path: file of a table as in training.
        """
        return ClassificationOutcome(*self.predictions_and_targets(path), self.class_names)

    def _read(self, source: str | Path) -> list[str]:
        path = Path(source)
        if path.suffix in TABLES and path.is_file():
            return read_texts(path, self._text_column, self._label_column, self.class_names)
        if path.suffix == ".txt" and path.is_file():
            return [line for line in read_utf8(path).split("\n") if line.strip()]
        if path.suffix in (*TABLES, ".txt") and " " not in str(source):
            raise UserError(f"{source}: no such file; give a .txt, .tsv or .csv file, or a sentence")
        if not str(source).strip():
            raise UserError("the sentence is empty; give at least one word")
        return [str(source)]
