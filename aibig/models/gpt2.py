"""GPT-2 in its four sizes (Radford et al. 2019), laid out for their published weights. Knows no text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from torch import Tensor

from aibig.config.settings import Fraction, PositiveFloat, PositiveInt
from aibig.errors import UserError
from aibig.layers.published import Names, activation_of, translated
from aibig.layers.sizes import sized
from aibig.models.transformer import Transformer


class Gpt2(Transformer):
    """Embedding + learned positions - pre-norm blocks with biases and tanh-GELU - LayerNorm - the embedding's matrix.

    size: of the paper (table 2); width, layers and heads go before what it says. The other settings are those of
    `Transformer`. Its first weights are those of the paper's section 2.3 and its published code: of scale 0.02, and
    less, with depth, where the stream is added to.
    """

    SIZES: ClassVar[dict[str, dict[str, int]]] = {
        "small": {"width": 768, "layers": 12, "heads": 12},
        "medium": {"width": 1024, "layers": 24, "heads": 16},
        "large": {"width": 1280, "layers": 36, "heads": 20},
        "xl": {"width": 1600, "layers": 48, "heads": 25},
    }
    weights_std: ClassVar[float | None] = 0.02
    PUBLISHED: ClassVar[Names] = {
        "embedding": "wte",
        "positions": "wpe",
        "blocks.N.attention_norm": "h.N.ln_1",
        "blocks.N.attention.qkv_proj": "h.N.attn.c_attn",
        "blocks.N.attention.out_proj": "h.N.attn.c_proj",
        "blocks.N.feed_forward_norm": "h.N.ln_2",
        "blocks.N.feed_forward.up_proj": "h.N.mlp.c_fc",
        "blocks.N.feed_forward.down_proj": "h.N.mlp.c_proj",
        "norm": "ln_f",
        "head": "lm_head|score",
    }

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
        checkpointing: bool = False,
        num_classes: PositiveInt | None = None,
        pooling: Literal["last", "mean", "max"] = "last",
    ) -> None:
        numbers = sized(self.SIZES[size], width=width, layers=layers, heads=heads)
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
            checkpointing=checkpointing,
            num_classes=num_classes,
            pooling=pooling,
            **numbers,
        )
        self.sized = numbers

    @staticmethod
    def published_settings(config: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a published model, from its config.json. Raises UserError for what this one has not."""
        for key, ours in {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False}.items():
            if config.get(key, ours) != ours:
                raise UserError(f"{key} {config[key]} is not to be had here")
        between = config.get("n_inner")
        return {
            "width": config["n_embd"],
            "layers": config["n_layer"],
            "heads": config["n_head"],
            **({"feed_forward": between} if between else {}),
            "vocab_size": config["vocab_size"],
            "context": config["n_positions"],
            "activation": activation_of(config.get("activation_function", "gelu_new")),
            "norm_eps": config.get("layer_norm_epsilon", 1e-5),
            "tied": config.get("tie_word_embeddings", True),
        }

    def published_weights(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Published tensors by the names that they have here; those of linear layers are stored transposed."""
        layers = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
        turned = {name: tensor.T if name.endswith(layers) else tensor for name, tensor in tensors.items()}
        return translated(turned, self.PUBLISHED, prefix="transformer.")
