"""A Transformer language model, or classifier of texts, whose parts are settings. Knows no text: tokens are numbers.

B batch, T time, V vocabulary, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from aibig.config.settings import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt
from aibig.errors import UserError
from aibig.generation.language_model import LanguageModel
from aibig.layers.attention.kv_cache import KVCache
from aibig.layers.attention.rotary import rotary_angles
from aibig.layers.attention.self_attention import SelfAttention, up_to
from aibig.layers.causal_conv import CausalConv
from aibig.layers.feed_forward import FeedForward
from aibig.layers.norm import make_norm
from aibig.layers.pooling import is_real, pool
from aibig.layers.token_losses import TokenScores, capped, token_scores


class Transformer(LanguageModel):
    """Embedding - pre-norm blocks - norm - Linear; causal, with rotary positions and no biases by default.

    vocab_size: V. context: tokens that it is trained on at once; generation keeps to it. width: C. layers: blocks.
    heads, kv_heads, head_width, query_key_norm: see `SelfAttention`; None is as many as heads, and width / heads.
    window: tokens that each may look back on, itself among them. feed_forward: width of the layer between, by
    default 4 C, with SwiGLU 8/3 C. activation: see `FeedForward`. conv: tokens in sight of the convolutions before
    attention and feed-forward, see `CausalConv`; None: there are none. norm, norm_eps, norm_gain: see `make_norm`;
    embedding_norm: one also on the embedding. positions: rotary (rotary_base, rotary_scaling: see `rotary_angles`),
    learned (as many as `context`) or none. bias: of linear layers and layer norms.
    tied: the head is the embedding's matrix. head_std: of the head's first weights; 0 begins with all tokens
    equally likely. logit_cap: see `capped`.
    dropout: on the embedding and on what each block adds. word_dropout: of whole tokens. checkpointing: blocks are
    computed again in the backward pass, so that what they compute need not be kept (arXiv 1604.06174).
    num_classes: for a classifier of texts: its head is Linear(C, num_classes) on the states of all tokens pooled by
    `pooling` (see aibig.layers.pooling), with dropout before it, and need not be `causal`.

    Raises UserError for widths that don't fit, and for a language model that is not causal.
    """

    can_truncate: ClassVar[bool] = True
    weights_std: ClassVar[float | None] = None  # of all first weights but what is added to the stream; None: by layer
    context: int
    rotation: Tensor | None

    def __init__(
        self,
        *,
        vocab_size: PositiveInt,
        context: PositiveInt = 64,
        width: PositiveInt = 128,
        layers: PositiveInt = 4,
        heads: PositiveInt = 4,
        kv_heads: PositiveInt | None = None,
        head_width: PositiveInt | None = None,
        query_key_norm: bool = True,
        window: PositiveInt | None = None,
        feed_forward: PositiveInt | None = None,
        activation: Literal["gelu", "gelu_tanh", "relu_squared", "swiglu"] = "relu_squared",
        norm: Literal["rms", "layer"] = "rms",
        norm_eps: PositiveFloat | None = None,
        norm_gain: bool = True,
        embedding_norm: bool = False,
        conv: PositiveInt | None = None,
        positions: Literal["rotary", "learned", "none"] = "rotary",
        rotary_base: PositiveFloat = 10_000.0,
        rotary_scaling: dict[str, Any] | None = None,
        bias: bool = False,
        tied: bool = False,
        head_std: NonNegativeFloat = 0.02,
        logit_cap: PositiveFloat | None = None,
        dropout: Fraction = 0.0,
        word_dropout: Fraction = 0.0,
        checkpointing: bool = False,
        num_classes: PositiveInt | None = None,
        pooling: Literal["last", "mean", "max"] = "last",
        causal: bool = True,
    ) -> None:
        super().__init__()
        if not causal and num_classes is None:
            raise UserError("causal: a language model may not look ahead; leave it out, or set num_classes")
        if head_width is None and width % (2 * heads):
            raise UserError(f"width {width} must be a multiple of twice the heads ({2 * heads}); or set head_width")
        if heads % (kv_heads or heads):
            raise UserError(f"heads {heads} must be a multiple of kv_heads ({kv_heads})")
        each = head_width or width // heads
        if positions == "rotary" and each % 2:
            raise UserError(f"head_width {each} must be even, since rotary positions turn channels two by two")
        self.vocab_size, self.context, self.window = vocab_size, context, window
        self.num_classes, self.pooling, self.causal = num_classes, pooling, causal
        self.logit_cap, self.checkpointing = logit_cap, checkpointing
        self.embedding = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(context, width) if positions == "learned" else None
        rotation = None
        if positions == "rotary":
            rotation = rotary_angles(torch.arange(context), each, rotary_base, rotary_scaling)
        self.register_buffer("rotation", rotation, persistent=False)  # (context, D / 2, 2)
        learned = {"gain": norm_gain, "bias": bias}
        self.embedding_norm = make_norm(norm, width, norm_eps, **learned) if embedding_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.word_dropout = nn.Dropout1d(word_dropout)
        between = feed_forward or (8 * width // 3 if activation == "swiglu" else 4 * width)
        self.blocks = nn.ModuleList(
            Block(
                SelfAttention(
                    *(width, heads),
                    kv_heads=kv_heads,
                    head_width=each,
                    bias=bias,
                    query_key_norm=make_norm(norm, each, norm_eps, **learned) if query_key_norm else None,
                    dropout=dropout,
                ),
                FeedForward(width, between, activation, bias),
                [make_norm(norm, width, norm_eps, **learned) for _ in range(2)],
                [CausalConv(width, conv) for _ in range(2)] if conv else [None, None],
                dropout,
            )
            for _ in range(layers)
        )
        self.norm = make_norm(norm, width, norm_eps, **learned)
        self.head = nn.Linear(width, num_classes or vocab_size, bias=False)
        self._initialise(tied and num_classes is None, head_std)

    def forward(
        self,
        tokens: Tensor,
        lengths: Tensor | None = None,
        state: KVCache | None = None,
        targets: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> tuple[Tensor | TokenScores, KVCache | None] | Tensor:
        """tokens (B, T) -> logits (B, T, V), or with targets (B, T) TokenScores; and the memory, which is changed.

        A classifier: scores (B, num_classes). See `LanguageModel.forward`.
        """
        time, past = tokens.shape[1], 0 if state is None else state.longest
        places = torch.arange(time, device=tokens.device).unsqueeze(0) if state is None else state.positions(time)
        attn_mask, causal = self._visible(places, past + time, lengths, state, documents)
        rotation = None if self.rotation is None else self.rotation[places]  # (1 or B, T, D / 2, 2)
        hidden = self.embedding(tokens)  # (B, T, C)
        if self.positions is not None:
            hidden = hidden + self.positions(places)
        hidden = self.dropout(self.word_dropout(self.embedding_norm(hidden)))
        for number, block in enumerate(self.blocks):
            if self.checkpointing and self.training:
                hidden = checkpoint(block, hidden, rotation, attn_mask, causal, None, 0, documents, use_reentrant=False)
            else:
                hidden = block(hidden, rotation, attn_mask, causal, state, number, documents)
        if state is not None:
            state.advance(time, lengths)
        if self.num_classes is not None:
            pooled = pool(hidden, lengths, self.pooling)  # before the norm: a token counts by the size of its state
            return self.head(self.dropout(self.norm(pooled)))
        hidden = self.norm(hidden)
        if targets is not None:
            return token_scores(hidden, self.head.weight, None, targets, cap=self.logit_cap), state
        return capped(self.head(hidden), self.logit_cap), state

    def init_state(self, batch_size: int = 1, max_tokens: int | None = None) -> KVCache:
        """No keys and values yet, and room for those of `max_tokens` tokens, by default `context`."""
        return KVCache(batch_size, max_tokens or self.context, self.embedding.weight.device)

    def select_state(self, state: KVCache, rows: Tensor) -> KVCache:
        """The keys and values of these rows alone."""
        return state.select(rows)

    def truncate_state(self, state: KVCache, lengths: Tensor) -> KVCache:
        """Forgets, in place, what each row read beyond its first `lengths` (B,) tokens."""
        state.rewind(lengths)
        return state

    def _visible(
        self, places: Tensor, total: int, lengths: Tensor | None, state: KVCache | None, documents: Tensor | None
    ) -> tuple[Tensor | None, bool]:
        """Which of `total` tokens those at `places` (1 or B, T) may look at; and whether causality alone decides it."""
        time = places.shape[1]
        if not self.causal:
            return None if lengths is None else is_real(lengths.to(places.device), time)[:, None, None], False
        if documents is None and (self.window is None or total <= self.window):
            if total == time:
                return None, True
            if time == 1 and state is not None and state.even:
                return None, False
        attn_mask = up_to(places, total, self.window)
        if documents is not None:
            attn_mask = attn_mask & (documents.unsqueeze(2) == documents.unsqueeze(1)).unsqueeze(1)
        return attn_mask, False

    def _initialise(self, tied: bool, head_std: float) -> None:
        """Normal weights of 1/sqrt(inputs), so that scales stay; small ones where the stream is added to.

        What is added falls with depth (GPT-2, section 2.3), so that the stream begins as the embedding, of
        scale 1; the head begins close to zero, so that all tokens begin about as likely. Where it is tied to the
        embedding, both begin as GPT-2's do, of scale 0.02.
        """
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            if parameter.ndim < 2 or "conv" in name:  # which begins as the identity
                continue
            std = self.weights_std or parameter.shape[1] ** -0.5
            if name.endswith(("attention.out_proj.weight", "feed_forward.down_proj.weight")):
                std = 0.02 / (2 * len(self.blocks)) ** 0.5
            elif name == "head.weight":
                std = head_std
            elif name in ("embedding.weight", "positions.weight") and self.weights_std is None:
                std = 0.02 if tied else 1.0
            nn.init.normal_(parameter, std=std)
        if tied:
            self.head.weight = self.embedding.weight


class Block(nn.Module):
    """Attention, then a feed-forward layer, each on the normalised stream and added to it."""

    def __init__(
        self,
        attention: SelfAttention,
        feed_forward: FeedForward,
        norms: Sequence[nn.Module],
        convs: Sequence[CausalConv | None],
        dropout: float,
    ) -> None:
        super().__init__()
        self.attention_norm, self.feed_forward_norm = norms
        self.attention_conv, self.feed_forward_conv = convs
        self.attention, self.feed_forward = attention, feed_forward
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        hidden: Tensor,
        rotation: Tensor | None = None,
        attn_mask: Tensor | None = None,
        causal: bool = False,
        state: KVCache | None = None,
        number: int = 0,
        documents: Tensor | None = None,
    ) -> Tensor:
        """(B, T, C) -> (B, T, C); the other arguments are those of `SelfAttention.forward` and `CausalConv.forward`."""
        read = self.attention_norm(hidden)
        if self.attention_conv is not None:
            read = self.attention_conv(read, state, f"attention {number}", documents)
        hidden = hidden + self.attention(read, rotation, attn_mask, causal, state, number)
        read = self.feed_forward_norm(hidden)
        if self.feed_forward_conv is not None:
            read = self.feed_forward_conv(read, state, f"feed_forward {number}", documents)
        return hidden + self.dropout(self.feed_forward(read))
