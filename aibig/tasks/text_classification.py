"""Learning the classes of texts, from nothing or from word vectors. Knows no model by name."""

from __future__ import annotations

from typing import Any

from torch import nn

from aibig.config.run_config import Config
from aibig.config.settings import Fraction
from aibig.data.labelled import LabelledData
from aibig.data.text.text_labels import LabelledTexts
from aibig.errors import UserError
from aibig.tasks.base import Context
from aibig.tasks.first_weights import check_tokenizer
from aibig.tasks.supervised import Classification, check_inputs
from aibig.tasks.word_vectors import embedding_settings, first_vectors, give_word_vectors


class TextClassification(Classification):
    """Which class a text is of: cross-entropy.

    label_smoothing: probability spread over all classes (arXiv 1512.00567, section 7). word_vectors: a file that the
    embedding begins with, in the format of GloVe or word2vec; its width becomes the model's. freeze_word_vectors:
    they are not trained.
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
        tokenizer, tokens = data.encoder.tokenizer, data.parts["train"].sentences.tokens
        coverage = give_word_vectors(model, word_vectors, freeze_word_vectors, tokenizer, tokens, context.seed)
        super().__init__(model, data, context, label_smoothing=label_smoothing)
        self.notes = [*data.notes, *coverage]

    @classmethod
    def from_config(cls, config: Config, context: Context) -> TextClassification:
        """Build data, model and task from the sections `data`, `model` and `task`."""
        data: LabelledTexts = config.create("data")
        with config.blaming("data"):
            given = cls.model_settings(data)
        check_tokenizer(config, data.encoder.tokenizer)
        vectors = first_vectors(config)
        given |= embedding_settings(vectors)
        check_inputs(config, given)
        model = config.create("model", **given)
        return cls(model, data, context, **config.section("task") | {"word_vectors": vectors})

    @classmethod
    def model_settings(cls, data: LabelledData) -> dict[str, Any]:
        """As many outputs as classes. Raises UserError for data that are no texts."""
        if not isinstance(data, LabelledTexts):
            raise UserError("holds no texts with labels; use the task 'classification'")
        return super().model_settings(data)
