"""Llama in four sizes of its versions 3.1 and 3.2 (arXiv 2407.21783), laid out for their published weights.

Knows no text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from torch import Tensor

from aibig.config.settings import Fraction, PositiveFloat, PositiveInt
from aibig.errors import UserError
from aibig.layers.published import Names, translated
from aibig.layers.sizes import sized
from aibig.models.transformer import Transformer

LONGER = {  # "llama3" is the published name of this scaling, see aibig.layers.attention.rotary
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


class Llama(Transformer):
    """Embedding - pre-norm blocks with RMSNorm, rotary positions, grouped queries and SwiGLU - RMSNorm - Linear.

    size: "1b" and "3b" of version 3.2, "8b" and "70b" of version 3.1, with the numbers of their published
    config.json; what is given beside it goes first (rotary_scaling {"rope_type": "default"}: none). With heads of
    your own, kv_heads are as many if not given, with a width of your own, feed_forward is 8/3 of it. The other
    settings are those of `Transformer`.
    """

    SIZES: ClassVar[dict[str, dict[str, Any]]] = {
        "1b": {
            **{"width": 2048, "layers": 16, "heads": 32, "kv_heads": 8, "feed_forward": 8192, "tied": True},
            "rotary_scaling": {**LONGER, "factor": 32.0},
        },
        "3b": {
            **{"width": 3072, "layers": 28, "heads": 24, "kv_heads": 8, "feed_forward": 8192, "tied": True},
            "rotary_scaling": {**LONGER, "factor": 32.0},
        },
        "8b": {
            **{"width": 4096, "layers": 32, "heads": 32, "kv_heads": 8, "feed_forward": 14_336, "tied": False},
            "rotary_scaling": {**LONGER, "factor": 8.0},
        },
        "70b": {
            **{"width": 8192, "layers": 80, "heads": 64, "kv_heads": 8, "feed_forward": 28_672, "tied": False},
            "rotary_scaling": {**LONGER, "factor": 8.0},
        },
    }
    weights_std: ClassVar[float | None] = 0.02
    PUBLISHED: ClassVar[Names] = {
        "embedding": "embed_tokens",
        "blocks.N.attention_norm": "layers.N.input_layernorm",
        "blocks.N.attention.qkv_proj": (
            "layers.N.self_attn.q_proj",
            "layers.N.self_attn.k_proj",
            "layers.N.self_attn.v_proj",
        ),
        "blocks.N.attention.out_proj": "layers.N.self_attn.o_proj",
        "blocks.N.feed_forward_norm": "layers.N.post_attention_layernorm",
        "blocks.N.feed_forward.up_proj": ("layers.N.mlp.gate_proj", "layers.N.mlp.up_proj"),
        "blocks.N.feed_forward.down_proj": "layers.N.mlp.down_proj",
        "norm": "norm",
        "head": "lm_head|score",
    }

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
        checkpointing: bool = False,
        num_classes: PositiveInt | None = None,
        pooling: Literal["last", "mean", "max"] = "last",
    ) -> None:
        of_size = dict(self.SIZES[size])
        if heads:
            del of_size["kv_heads"]
        if width:
            del of_size["feed_forward"]
        numbers = sized(
            of_size,
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
            checkpointing=checkpointing,
            num_classes=num_classes,
            pooling=pooling,
            **numbers,
        )
        self.sized = numbers
        self.head_width = head_width or numbers["width"] // numbers["heads"]

    @staticmethod
    def published_settings(config: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a published model, from its config.json. Raises UserError for what this one has not."""
        for key, ours in {"attention_bias": False, "mlp_bias": False, "hidden_act": "silu"}.items():
            if config.get(key, ours) != ours:
                raise UserError(f"{key} {config[key]} is not to be had here")
        width, heads = config["hidden_size"], config["num_attention_heads"]
        rotary = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})  # version 5 renamed it
        base = rotary.pop("rope_theta", config.get("rope_theta", 10_000.0))
        head_width = config.get("head_dim") or width // heads
        return {
            "width": width,
            "layers": config["num_hidden_layers"],
            "heads": heads,
            "kv_heads": config.get("num_key_value_heads") or heads,
            **({} if head_width == width // heads else {"head_width": head_width}),
            "feed_forward": config["intermediate_size"],
            "vocab_size": config["vocab_size"],
            "context": config["max_position_embeddings"],
            "norm_eps": config["rms_norm_eps"],
            "rotary_base": float(base),
            "rotary_scaling": rotary or {"rope_type": "default"},
            "tied": config.get("tie_word_embeddings", False),
        }

    def published_weights(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Published tensors by the names that they have here, with rotary channels side by side."""
        turned = ("q_proj.weight", "k_proj.weight")
        paired = {
            name: side_by_side(one, self.head_width) if name.endswith(turned) else one for name, one in tensors.items()
        }
        return translated(paired, self.PUBLISHED, prefix="model.")


def side_by_side(matrix: Tensor, size: int) -> Tensor:
    """The rows of each head, (heads size, C), in another order: those that rotary positions turn together, which are
    published half a head apart, as neighbours.
    """
    return matrix.unflatten(0, (-1, 2, size // 2)).transpose(1, 2).flatten(0, 2)
