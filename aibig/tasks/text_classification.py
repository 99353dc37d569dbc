"""Classification of texts. Knows no model by name.

B batch, T tokens, C classes."""

from __future__ import annotations

from typing import Any

from torch import nn

from aibig.config.run_config import Config
from aibig.config.settings import Fraction
from aibig.data.labelled import LabelledData
from aibig.data.text.text_labels import LabelledTexts
from aibig.errors import UserError
from aibig.tasks.base import Context
from aibig.tasks.supervised import Classification, check_inputs
from aibig.tasks.tokenizer_check import check_tokenizer
from aibig.tasks.word_vectors import embedding_settings, init_word_vectors, word_vectors_path


class TextClassification(Classification):
    """Classification of texts with cross-entropy.

    Args:
        model: module that returns logits (B, C) for tokens (B, T) and lengths (B,).
        data: texts with labels.
        context: context of this rank.
        label_smoothing: probability spread over all classes (arXiv 1512.00567, section 7).
        word_vectors: file of initial embeddings, in the format of GloVe or word2vec; it decides their width.
        freeze_word_vectors: do not train the word vectors.

    Raises:
        UserError: the word vectors don't fit.
    """

    data: LabelledTexts

    def __init__(
        self,
        model: nn.Module,
        data: LabelledTexts,
        context: Context,
        *,
        label_smoothing: Fraction = 0.0,
        word_vectors: str | None = None,
        freeze_word_vectors: bool = False,
    ) -> None:
        tokenizer, tokens = data.preprocessor.tokenizer, data.splits["train"].sentences.tokens
        coverage = init_word_vectors(model, word_vectors, freeze_word_vectors, tokenizer, tokens, context.seed)
        super().__init__(model, data, context, label_smoothing=label_smoothing)
        self.notes = [*data.notes, *coverage]

    @classmethod
    def from_config(cls, config: Config, context: Context) -> TextClassification:
        """Build data, model and task from the sections `data`, `model` and `task`."""
        data: LabelledTexts = config.create("data")
        with config.locating_errors("data"):
            settings = cls.model_settings(data)
        check_tokenizer(config, data.preprocessor.tokenizer)
        vectors = word_vectors_path(config)
        settings |= embedding_settings(vectors)
        check_inputs(config, settings)
        model = config.create("model", **settings)
        return cls(model, data, context, **config.section("task") | {"word_vectors": vectors})

    @classmethod
    def model_settings(cls, data: LabelledData) -> dict[str, Any]:
        """One output per class. Raises UserError for data that are not texts."""
        if not isinstance(data, LabelledTexts):
            raise UserError("has no texts with labels; use the task 'classification'")
        return super().model_settings(data)
