"""BERT (arXiv 1810.04805): an encoder that looks both ways, laid out for its published weights. Knows no text.

B batch, T time, V vocabulary, H width, M chosen places.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from aibig.config.settings import Fraction, PositiveFloat, PositiveInt
from aibig.errors import UserError
from aibig.layers.attention.self_attention import SelfAttention
from aibig.layers.feed_forward import ACTIVATIONS, FeedForward
from aibig.layers.norm import make_norm
from aibig.layers.pooling import is_real, pool
from aibig.layers.published import Names, activation_of, translated
from aibig.layers.sizes import sized
from aibig.layers.token_losses import TokenScores, token_scores
from aibig.models.transformer import Block


class Bert(nn.Module):
    """Embeddings of tokens, positions and types, summed and normalised - post-norm blocks - a head.

    The head gives scores of the token at each place, for masked language modelling: Linear - activation - norm - the
    embedding's matrix and a bias. With `num_classes`, of the classes of a whole text: by default the first token's
    state through Linear - tanh (`pooling` "pooler"), or another pooling (see aibig.layers.pooling), then Linear.

    size: of the paper (section 3); width, layers and heads go before what it says. feed_forward: width of the layer
    between, by default 4 H. vocab_size: V. context: tokens of the longest text. token_types: how many parts of a text
    are told apart. activation: see `FeedForward`. dropout: on the embedding, on what each block adds, and before a
    classifier's head.

    Raises UserError for a width that the heads don't divide.
    """

    SIZES: ClassVar[dict[str, dict[str, int]]] = {
        "base": {"width": 768, "layers": 12, "heads": 12},
        "large": {"width": 1024, "layers": 24, "heads": 16},
    }
    PUBLISHED: ClassVar[Names] = {
        "embedding": "embeddings.word_embeddings",
        "positions": "embeddings.position_embeddings",
        "token_types": "embeddings.token_type_embeddings",
        "embedding_norm": "embeddings.LayerNorm",
        "blocks.N.attention.qkv_proj": (
            "encoder.layer.N.attention.self.query",
            "encoder.layer.N.attention.self.key",
            "encoder.layer.N.attention.self.value",
        ),
        "blocks.N.attention.out_proj": "encoder.layer.N.attention.output.dense",
        "blocks.N.attention_norm": "encoder.layer.N.attention.output.LayerNorm",
        "blocks.N.feed_forward.up_proj": "encoder.layer.N.intermediate.dense",
        "blocks.N.feed_forward.down_proj": "encoder.layer.N.output.dense",
        "blocks.N.feed_forward_norm": "encoder.layer.N.output.LayerNorm",
        "pooler": "pooler.dense",
        "transform": "cls.predictions.transform.dense",
        "transform_norm": "cls.predictions.transform.LayerNorm",
        "head": "cls.predictions.decoder|cls.predictions|classifier",
    }

    def __init__(
        self,
        *,
        size: Literal["base", "large"] = "base",
        width: PositiveInt | None = None,
        layers: PositiveInt | None = None,
        heads: PositiveInt | None = None,
        feed_forward: PositiveInt | None = None,
        vocab_size: PositiveInt = 30_522,
        context: PositiveInt = 512,
        token_types: PositiveInt = 2,
        activation: Literal["gelu", "gelu_tanh"] = "gelu",
        norm_eps: PositiveFloat = 1e-12,
        dropout: Fraction = 0.1,
        num_classes: PositiveInt | None = None,
        pooling: Literal["pooler", "mean", "last", "max"] = "pooler",
    ) -> None:
        super().__init__()
        numbers = sized(self.SIZES[size], width=width, layers=layers, heads=heads)
        width, layers, heads = numbers["width"], numbers["layers"], numbers["heads"]
        if width % heads:
            raise UserError(f"width {width} must be a multiple of the heads ({heads})")
        self.sized = numbers
        self.vocab_size, self.context = vocab_size, context
        self.num_classes, self.pooling = num_classes, pooling
        self.embedding = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(context, width)
        self.token_types = nn.Embedding(token_types, width)
        self.embedding_norm = make_norm("layer", width, norm_eps, bias=True)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            PostNormBlock(
                SelfAttention(width, heads, bias=True, dropout=dropout),
                FeedForward(width, feed_forward or 4 * width, activation, bias=True),
                [make_norm("layer", width, norm_eps, bias=True) for _ in range(2)],
                [None, None],
                dropout,
            )
            for _ in range(layers)
        )
        self.activation = ACTIVATIONS[activation]
        models_tokens, pools = num_classes is None, num_classes is not None and pooling == "pooler"
        self.transform = nn.Linear(width, width) if models_tokens else None
        self.transform_norm = make_norm("layer", width, norm_eps, bias=True) if models_tokens else None
        self.pooler = nn.Linear(width, width) if pools else None
        self.head = nn.Linear(width, num_classes or vocab_size)
        self._initialise()

    def forward(
        self,
        tokens: Tensor,
        lengths: Tensor | None = None,
        token_types: Tensor | None = None,
        targets: Tensor | None = None,
        places: Tensor | None = None,
    ) -> tuple[Tensor | TokenScores, None] | Tensor:
        """tokens (B, T) -> logits (B, T, V) of the token at each place, and None; a classifier: scores (B, C).

        lengths (B,): true lengths of right-padded texts; padding changes nothing. token_types (B, T): the part of the
        text that each token is of, by default the first. targets (M,) and places (M,): instead of logits give what
        the losses of the targets at these places, b T + t, are made of.
        """
        hidden = self.embedding(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        hidden = hidden + self.token_types(torch.zeros_like(tokens) if token_types is None else token_types)
        hidden = self.dropout(self.embedding_norm(hidden))  # (B, T, H)
        attn_mask = None
        if lengths is not None:
            attn_mask = is_real(lengths.to(tokens.device), tokens.shape[1])[:, None, None]  # (B, 1, 1, T)
        for block in self.blocks:
            hidden = block(hidden, attn_mask)
        if self.num_classes is not None:
            return self.head(self.dropout(self._pooled(hidden, lengths)))
        if targets is None or places is None:
            return self.head(self._transformed(hidden)), None
        chosen = self._transformed(hidden.flatten(0, 1)[places])  # (M, H)
        return token_scores(chosen, self.head.weight, self.head.bias, targets), None

    def _transformed(self, hidden: Tensor) -> Tensor:
        """(..., H) -> (..., H), to be set beside the embeddings."""
        assert self.transform is not None and self.transform_norm is not None
        return self.transform_norm(self.activation(self.transform(hidden)))

    def _pooled(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T, H) -> (B, H)."""
        return pool(hidden, lengths, self.pooling) if self.pooler is None else self.pooler(hidden[:, 0]).tanh()

    def _initialise(self) -> None:
        """Weights of scale 0.02 and biases of 0 (published code: initializer_range); the head is the embedding."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        if self.num_classes is None:
            self.head.weight = self.embedding.weight

    @staticmethod
    def published_settings(config: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a published model, from its config.json. Raises UserError for what this one has not."""
        for key, ours in {"position_embedding_type": "absolute", "is_decoder": False}.items():
            if (config.get(key) or ours) != ours:
                raise UserError(f"{key} {config[key]!r} is not to be had here")
        return {
            "width": config["hidden_size"],
            "layers": config["num_hidden_layers"],
            "heads": config["num_attention_heads"],
            "feed_forward": config["intermediate_size"],
            "vocab_size": config["vocab_size"],
            "context": config["max_position_embeddings"],
            "token_types": config["type_vocab_size"],
            "activation": activation_of(config["hidden_act"]),
            "norm_eps": config["layer_norm_eps"],
        }

    def published_weights(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Published tensors by the names that they have here; old files call a norm's gain and bias otherwise."""
        named = {
            name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): tensor
            for name, tensor in tensors.items()
        }
        return translated(named, self.PUBLISHED, prefix="bert.")


class PostNormBlock(Block):
    """Attention, then a feed-forward layer, each added to the stream, which is then normalised."""

    def forward(self, hidden: Tensor, attn_mask: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """(B, T, H) -> (B, T, H). attn_mask (B, 1, 1, T): which tokens may be looked at."""
        hidden = self.attention_norm(hidden + self.attention(hidden, attn_mask=attn_mask))
        return self.feed_forward_norm(hidden + self.dropout(self.feed_forward(hidden)))
