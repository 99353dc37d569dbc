"""BERT (arXiv 1810.04805), a bidirectional encoder with the layout of its published weights. Knows no text.

B batch, T time, V vocabulary, C channels, M masked positions.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from aibig.config.settings import Fraction, PositiveFloat, PositiveInt
from aibig.errors import UserError
from aibig.layers.attention.self_attention import SelfAttention
from aibig.layers.feed_forward import ACTIVATIONS, FeedForward
from aibig.layers.norm import make_norm
from aibig.layers.pooling import pool, sequence_mask
from aibig.layers.sizes import with_size_defaults
from aibig.layers.token_losses import TokenLossTerms, token_loss_terms
from aibig.models.transformer import Block


class Bert(nn.Module):
    """Embeddings of tokens, positions and token types, summed and normalised - post-norm blocks - a head.

    The head gives logits of the token at each position, for masked language modelling: Linear - activation - norm -
    the embedding's matrix and a bias. With `num_classes` it gives scores of the classes of a whole text.

    Args:
        size: width, layers and heads of the paper (section 3), where they are not set.
        width: width of the residual stream; null: the size's.
        layers: number of blocks; null: the size's.
        heads: attention heads of a block; null: the size's.
        feed_forward: hidden width of the feed-forward layers; null: 4 times width.
        vocab_size: number of token ids.
        context: tokens of the longest text, which has as many learned positions.
        token_types: number of segments of a text that have an embedding of their own.
        activation: of the feed-forward layers and of the head: GELU, or its approximation by tanh.
        norm_eps: added to the variance in layer norms.
        dropout: fraction dropped of the embedding, of what each block adds, and before a classifier's head.
        num_classes: classes of a text classifier, with a linear head on the pooled states; null: a language model.
        pooling: what a classifier pools: the first token's state through Linear - tanh (pooler), or the last one, the
            mean or the maximum of all tokens' states.

    Raises:
        UserError: the width is no multiple of the heads.
    """

    SIZES: ClassVar[dict[str, dict[str, int]]] = {
        "base": {"width": 768, "layers": 12, "heads": 12},
        "large": {"width": 1024, "layers": 24, "heads": 16},
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
        self.size_settings = with_size_defaults(self.SIZES[size], width=width, layers=layers, heads=heads)
        width, layers, heads = (self.size_settings[name] for name in ("width", "layers", "heads"))
        if width % heads:
            raise UserError(f"width {width} must be a multiple of the heads ({heads})")
        self.vocab_size, self.context = vocab_size, context
        self.num_classes, self.pooling = num_classes, pooling
        self.embedding = nn.Embedding(vocab_size, width)
        self.position_embedding = nn.Embedding(context, width)
        self.token_type_embedding = nn.Embedding(token_types, width)
        self.embedding_norm = make_norm("layer", width, norm_eps, bias=True)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            PostNormBlock(
                SelfAttention(width, heads, bias=True, dropout=dropout),
                FeedForward(width, feed_forward or 4 * width, activation, bias=True),
                norms=[make_norm("layer", width, norm_eps, bias=True) for _ in range(2)],
                dropout=dropout,
            )
            for _ in range(layers)
        )
        self.activation = ACTIVATIONS[activation]
        is_classifier = num_classes is not None
        self.transform = None if is_classifier else nn.Linear(width, width)
        self.transform_norm = None if is_classifier else make_norm("layer", width, norm_eps, bias=True)
        self.pooler = nn.Linear(width, width) if is_classifier and pooling == "pooler" else None
        self.head = nn.Linear(width, num_classes or vocab_size)
        self._initialise()

    def forward(
        self,
        tokens: Tensor,
        lengths: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        targets: Tensor | None = None,
        masked_positions: Tensor | None = None,
    ) -> tuple[Tensor | TokenLossTerms, None] | Tensor:
        """Logits (B, T, V) of the token at each position, and no state; a classifier: scores (B, num_classes).

        Args:
            tokens: token ids, (B, T).
            lengths: true lengths of right-padded texts, (B,); padding changes nothing.
            token_type_ids: the segment of the text that each token is in, (B, T), by default the first.
            targets: token ids at masked_positions, (M,); both together give TokenLossTerms (M,) instead of logits.
            masked_positions: b T + t of each target, (M,).
        """
        hidden = self.embedding(tokens) + self.position_embedding(torch.arange(tokens.shape[1], device=tokens.device))
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(tokens)
        hidden = self.dropout(self.embedding_norm(hidden + self.token_type_embedding(token_type_ids)))  # (B, T, C)
        attn_mask = None
        if lengths is not None:
            attn_mask = sequence_mask(lengths.to(tokens.device), tokens.shape[1])[:, None, None]  # (B, 1, 1, T)
        for block in self.blocks:
            hidden = block(hidden, attn_mask)
        if self.num_classes is not None:
            return self.head(self.dropout(self._pool(hidden, lengths)))
        if targets is None or masked_positions is None:
            return self.head(self._transform(hidden)), None
        masked = self._transform(hidden.flatten(0, 1)[masked_positions])  # (M, C)
        return token_loss_terms(masked, self.head.weight, self.head.bias, targets), None

    def _transform(self, hidden: Tensor) -> Tensor:
        """(..., C) -> (..., C), comparable with the embeddings."""
        assert self.transform is not None and self.transform_norm is not None
        return self.transform_norm(self.activation(self.transform(hidden)))

    def _pool(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T, C) -> (B, C)."""
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


class PostNormBlock(Block):
    """Attention, then a feed-forward layer, each added to the residual stream, which is then normalised."""

    def forward(self, hidden: Tensor, attn_mask: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """(B, T, C) -> (B, T, C)."""
        hidden = self.attention_norm(hidden + self.attention(hidden, attn_mask=attn_mask))
        return self.feed_forward_norm(hidden + self.dropout(self.feed_forward(hidden)))
