"""Llama in four sizes of its versions 3.1 and 3.2 (arXiv 2407.21783), with the layout of their published weights.

Knows no text.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from aibig.config.settings import Fraction, PositiveFloat, PositiveInt
from aibig.layers.sizes import with_size_defaults
from aibig.models.transformer import Transformer

LLAMA3_SCALING = {  # see aibig.layers.attention.rotary
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


class Llama(Transformer):
    """Embedding - pre-norm blocks with RMSNorm, rotary positions, grouped queries and SwiGLU - RMSNorm - Linear.

    Args:
        size: numbers of the published config.json, where they are not set: "1b" and "3b" of version 3.2, "8b" and "70b"
            of version 3.1.
        width: width of the residual stream; null: the size's.
        layers: number of blocks; null: the size's.
        heads: attention heads of a block; null: the size's.
        kv_heads: heads of keys and values, each shared by heads / kv_heads of the queries'; null: the size's, or as
            many as heads where those are set.
        head_width: width of an attention head; null: width / heads.
        feed_forward: hidden width of the feed-forward layers; null: the size's, or 8/3 of width where that is set.
        vocab_size: number of token ids.
        context: tokens of a training sequence; generation keeps to it.
        norm_eps: added to the mean square in norms.
        rotary_base: base of the rotary frequencies (arXiv 2104.09864, section 3.2.2).
        rotary_scaling: rope_type "linear" or "llama3" with its numbers, as in config.json, or "default" for none; null:
            the size's.
        tied: whether the head shares the embedding's matrix; null: as in the size; a classifier's does not.
        dropout: fraction dropped of the embedding, of what each block adds, and before a classifier's head.
        word_dropout: fraction of whole tokens dropped.
        gradient_checkpointing: compute blocks again in the backward pass, which keeps fewer activations (arXiv
            1604.06174).
        num_classes: classes of a text classifier, with a linear head on the pooled states; null: a language model.
        pooling: what a classifier pools of the states of all tokens: the last one, their mean or their maximum.
    """

    SIZES: ClassVar[dict[str, dict[str, Any]]] = {
        "1b": {
            **{"width": 2048, "layers": 16, "heads": 32, "kv_heads": 8, "feed_forward": 8192, "tied": True},
            "rotary_scaling": {**LLAMA3_SCALING, "factor": 32.0},
        },
        "3b": {
            **{"width": 3072, "layers": 28, "heads": 24, "kv_heads": 8, "feed_forward": 8192, "tied": True},
            "rotary_scaling": {**LLAMA3_SCALING, "factor": 32.0},
        },
        "8b": {
            **{"width": 4096, "layers": 32, "heads": 32, "kv_heads": 8, "feed_forward": 14_336, "tied": False},
            "rotary_scaling": {**LLAMA3_SCALING, "factor": 8.0},
        },
        "70b": {
            **{"width": 8192, "layers": 80, "heads": 64, "kv_heads": 8, "feed_forward": 28_672, "tied": False},
            "rotary_scaling": {**LLAMA3_SCALING, "factor": 8.0},
        },
    }
    initializer_std: ClassVar[float | None] = 0.02

    def __init__(
        self,
        *,
        size: Literal["1b", "3b", "8b", "70b"] = "1b",
        width: PositiveInt | None = None,
        layers: PositiveInt | None = None,
        heads: PositiveInt | None = None,
        kv_heads: PositiveInt | None = None,
        head_width: PositiveInt | None = None,
        feed_forward: PositiveInt | None = None,
        vocab_size: PositiveInt = 128_256,
        context: PositiveInt = 131_072,
        norm_eps: PositiveFloat = 1e-5,
        rotary_base: PositiveFloat = 500_000.0,
        rotary_scaling: dict[str, Any] | None = None,
        tied: bool | None = None,
        dropout: Fraction = 0.0,
        word_dropout: Fraction = 0.0,
        gradient_checkpointing: bool = False,
        num_classes: PositiveInt | None = None,
        pooling: Literal["last", "mean", "max"] = "last",
    ) -> None:
        size_defaults = dict(self.SIZES[size])
        if heads:
            del size_defaults["kv_heads"]
        if width:
            del size_defaults["feed_forward"]
        size_settings = with_size_defaults(
            size_defaults,
            width=width,
            layers=layers,
            heads=heads,
            kv_heads=kv_heads,
            feed_forward=feed_forward,
            rotary_scaling=rotary_scaling,
            tied=tied,
        )
        super().__init__(
            vocab_size=vocab_size,
            context=context,
            head_width=head_width,
            query_key_norm=False,
            activation="swiglu",
            norm="rms",
            norm_eps=norm_eps,
            rotary_base=rotary_base,
            dropout=dropout,
            word_dropout=word_dropout,
            gradient_checkpointing=gradient_checkpointing,
            num_classes=num_classes,
            pooling=pooling,
            **size_settings,
        )
        self.size_settings = size_settings
