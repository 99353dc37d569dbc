"""GPT-2 in its four sizes (Radford et al. 2019), with the layout of its published weights. Knows no text."""

from __future__ import annotations

from typing import ClassVar, Literal

from aibig.config.settings import Fraction, PositiveFloat, PositiveInt
from aibig.layers.sizes import with_size_defaults
from aibig.models.transformer import Transformer


class Gpt2(Transformer):
    """Embedding + learned positions -> pre-norm blocks with biases and tanh-GELU -> LayerNorm -> tied output layer.

    Initial weights have std 0.02, and residual outputs less, with depth (the paper's section 2.3 and its code).

    Args:
        size: width, layers and heads of the paper (table 2), where they are not set.
        width: width of the residual stream; null: the size's.
        layers: number of blocks; null: the size's.
        heads: attention heads of a block; null: the size's.
        feed_forward: hidden width of the feed-forward layers; null: 4 times width.
        vocab_size: number of token ids.
        context: tokens of the longest sequence, which has as many learned positions.
        activation: of the feed-forward layers: GELU, or its approximation by tanh, as published.
        norm_eps: added to the variance in layer norms.
        tied: whether the head shares the embedding's matrix; a classifier's does not.
        dropout: fraction dropped of the embedding, of what each block adds, and before a classifier's head.
        word_dropout: fraction of whole tokens dropped.
        gradient_checkpointing: compute blocks again in the backward pass, which keeps fewer activations (arXiv
            1604.06174).
        num_classes: classes of a text classifier, with a linear head on the pooled states; null: a language model.
        pooling: what a classifier pools of the states of all tokens: the last one, their mean or their maximum.
    """

    SIZES: ClassVar[dict[str, dict[str, int]]] = {
        "small": {"width": 768, "layers": 12, "heads": 12},
        "medium": {"width": 1024, "layers": 24, "heads": 16},
        "large": {"width": 1280, "layers": 36, "heads": 20},
        "xl": {"width": 1600, "layers": 48, "heads": 25},
    }
    initializer_std: ClassVar[float | None] = 0.02

    def __init__(
        self,
        *,
        size: Literal["small", "medium", "large", "xl"] = "small",
        width: PositiveInt | None = None,
        layers: PositiveInt | None = None,
        heads: PositiveInt | None = None,
        feed_forward: PositiveInt | None = None,
        vocab_size: PositiveInt = 50_257,
        context: PositiveInt = 1024,
        activation: Literal["gelu_tanh", "gelu"] = "gelu_tanh",
        norm_eps: PositiveFloat = 1e-5,
        tied: bool = True,
        dropout: Fraction = 0.0,
        word_dropout: Fraction = 0.0,
        gradient_checkpointing: bool = False,
        num_classes: PositiveInt | None = None,
        pooling: Literal["last", "mean", "max"] = "last",
    ) -> None:
        size_settings = with_size_defaults(self.SIZES[size], width=width, layers=layers, heads=heads)
        super().__init__(
            vocab_size=vocab_size,
            context=context,
            query_key_norm=False,
            feed_forward=feed_forward,
            activation=activation,
            norm="layer",
            norm_eps=norm_eps,
            positions="learned",
            bias=True,
            tied=tied,
            dropout=dropout,
            word_dropout=word_dropout,
            gradient_checkpointing=gradient_checkpointing,
            num_classes=num_classes,
            pooling=pooling,
            **size_settings,
        )
        self.size_settings = size_settings
