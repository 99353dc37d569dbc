"""The Transformer that learns most from few tokens, as far as was measured here. Knows no text: tokens are numbers."""

from __future__ import annotations

from typing import Literal

from aibig.config.settings import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt
from aibig.models.transformer import Transformer


class Gpt(Transformer):
    """Rotary positions, squared ReLU, no biases, norms without gain also on the embedding, short convolutions before
    attention and feed-forward, capped logits and a head that begins with all tokens equally likely.

    The settings are those of `Transformer`. Of what was tried, the convolutions gain most (see `CausalConv`); LayerNorm
    in place of RMSNorm is the faster one on a CPU. Made to be trained with the optimizer `muon`.
    """

    def __init__(
        self,
        *,
        vocab_size: PositiveInt,
        context: PositiveInt = 256,
        width: PositiveInt = 384,
        layers: PositiveInt = 6,
        heads: PositiveInt = 6,
        kv_heads: PositiveInt | None = None,
        head_width: PositiveInt | None = None,
        window: PositiveInt | None = None,
        feed_forward: PositiveInt | None = None,
        norm: Literal["rms", "layer"] = "layer",
        conv: PositiveInt | None = 3,
        rotary_base: PositiveFloat = 1_000.0,
        head_std: NonNegativeFloat = 0.0,
        logit_cap: PositiveFloat | None = 15.0,
        dropout: Fraction = 0.0,
        word_dropout: Fraction = 0.0,
        checkpointing: bool = False,
        num_classes: PositiveInt | None = None,
        pooling: Literal["last", "mean", "max"] = "last",
        causal: bool = True,
    ) -> None:
        super().__init__(
            vocab_size=vocab_size,
            context=context,
            width=width,
            layers=layers,
            heads=heads,
            kv_heads=kv_heads,
            head_width=head_width,
            window=window,
            feed_forward=feed_forward,
            norm=norm,
            norm_gain=False,
            embedding_norm=True,
            conv=conv,
            rotary_base=rotary_base,
            head_std=head_std,
            logit_cap=logit_cap,
            dropout=dropout,
            word_dropout=word_dropout,
            checkpointing=checkpointing,
            num_classes=num_classes,
            pooling=pooling,
            causal=causal,
        )
