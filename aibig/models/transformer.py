"""A Transformer language model, or text classifier, whose parts are settings. Knows no text: its inputs are token ids.

B batch, T time, S keys (T, and what the cache holds), V vocabulary, C channels, D channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from aibig.config.settings import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt
from aibig.errors import UserError
from aibig.generation.language_model import LanguageModel
from aibig.layers.attention.kv_cache import KVCache
from aibig.layers.attention.rotary import rotary_angles
from aibig.layers.attention.self_attention import SelfAttention, causal_mask
from aibig.layers.causal_conv import CausalConv
from aibig.layers.feed_forward import FeedForward
from aibig.layers.norm import make_norm
from aibig.layers.pooling import pool, sequence_mask
from aibig.layers.token_losses import TokenLossTerms, softcap, token_loss_terms


class Transformer(LanguageModel):
    """Embedding - pre-norm blocks - norm - Linear; causal, with rotary positions and no biases by default.

    Args:
        vocab_size: number of token ids.
        context: tokens of a training sequence; generation keeps to it.
        width: width of the residual stream.
        layers: number of blocks.
        heads: attention heads of a block (arXiv 1706.03762, section 3.2).
        kv_heads: heads of keys and values, each shared by heads / kv_heads of the queries' (grouped-query attention,
            arXiv 2305.13245, section 2.2); null: as many as heads.
        head_width: width of an attention head; null: width / heads.
        query_key_norm: normalise queries and keys before the rotary positions, so that the attention's logits don't
            grow with the weights (arXiv 2010.04245).
        window: tokens that each token attends to, itself among them (arXiv 2004.05150, section 3.1); null: all before.
        feed_forward: hidden width of the feed-forward layers; null: 4 times width, or 8/3 of it with swiglu.
        activation: of the feed-forward layers; swiglu has a third matrix (arXiv 2002.05202, eq. 6), relu_squared is as
            good and cheaper (Primer, arXiv 2109.08668, section 4).
        norm: RMSNorm (arXiv 1910.07467) or LayerNorm (arXiv 1607.06450), the faster one on a CPU.
        norm_eps: added to the variance; null: the smallest step of the type for rms, 1e-5 for layer.
        norm_gain: whether norms have a learned gain.
        embedding_norm: whether the embedding is normalised too.
        conv: tokens that the convolutions before attention and feed-forward mix, the token itself among them (Canon
            layers, Allen-Zhu 2025, Physics of Language Models 4.1); null: no convolutions.
        positions: rotary (arXiv 2104.09864), learned (as many as context) or none.
        rotary_base: base of the rotary frequencies (arXiv 2104.09864, section 3.2.2).
        rotary_scaling: rope_type "linear" or "llama3" with its numbers, as in config.json of published Llama models;
            null: none.
        bias: whether linear layers and layer norms have one.
        tied: whether the head shares the embedding's matrix; a classifier's does not.
        head_std: standard deviation of the head's first weights; 0 begins with all tokens equally likely.
        logit_cap: logits are cap * tanh(logits / cap) (Gemma 2, arXiv 2408.00118, section 2); null: as they are.
        dropout: fraction dropped of the embedding, of what each block adds, and before a classifier's head.
        word_dropout: fraction of whole tokens dropped.
        gradient_checkpointing: compute blocks again in the backward pass, which keeps fewer activations (arXiv
            1604.06174).
        num_classes: classes of a text classifier, with a linear head on the pooled states; null: a language model.
        pooling: what a classifier pools of the states of all tokens: the last one, their mean or their maximum.
        causal: each token attends to those up to itself; only a classifier may do without.

    Raises:
        UserError: the widths don't fit, or a language model is not causal.
    """

    can_truncate: ClassVar[bool] = True
    initializer_std: ClassVar[float | None] = None  # of initial weights, except residual outputs
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
        gradient_checkpointing: bool = False,
        num_classes: PositiveInt | None = None,
        pooling: Literal["last", "mean", "max"] = "last",
        causal: bool = True,
    ) -> None:
        super().__init__()
        if not causal and num_classes is None:
            raise UserError("causal: a language model must be; leave it out, or set num_classes")
        if head_width is None and width % (2 * heads):
            raise UserError(f"width {width} must be a multiple of twice the heads ({2 * heads}); or set head_width")
        if heads % (kv_heads or heads):
            raise UserError(f"heads {heads} must be a multiple of kv_heads ({kv_heads})")
        head_width = head_width or width // heads
        if positions == "rotary" and head_width % 2:
            raise UserError(
                f"head_width {head_width} must be even for rotary positions, which rotate pairs of channels"
            )
        self.vocab_size, self.context, self.window = vocab_size, context, window
        self.num_classes, self.pooling, self.causal = num_classes, pooling, causal
        self.logit_cap, self.gradient_checkpointing = logit_cap, gradient_checkpointing
        self.embedding = nn.Embedding(vocab_size, width)
        self.position_embedding = nn.Embedding(context, width) if positions == "learned" else None
        rotation = None
        if positions == "rotary":
            rotation = rotary_angles(torch.arange(context), head_width, rotary_base, rotary_scaling)
        self.register_buffer("rotation", rotation, persistent=False)  # (context, D / 2, 2)
        new_norm = partial(make_norm, norm, eps=norm_eps, gain=norm_gain, bias=bias)
        self.embedding_norm = new_norm(width) if embedding_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.word_dropout = nn.Dropout1d(word_dropout)
        hidden_width = feed_forward or (8 * width // 3 if activation == "swiglu" else 4 * width)
        self.blocks = nn.ModuleList(
            Block(
                SelfAttention(
                    *(width, heads),
                    kv_heads=kv_heads,
                    head_width=head_width,
                    bias=bias,
                    query_key_norm=new_norm(head_width) if query_key_norm else None,
                    dropout=dropout,
                ),
                FeedForward(width, hidden_width, activation, bias),
                norms=[new_norm(width) for _ in range(2)],
                convs=[CausalConv(width, conv) for _ in range(2)] if conv else [None, None],
                dropout=dropout,
            )
            for _ in range(layers)
        )
        self.norm = new_norm(width)
        self.head = nn.Linear(width, num_classes or vocab_size, bias=False)
        self._initialise(tied and num_classes is None, head_std)

    def forward(
        self,
        tokens: Tensor,
        lengths: Tensor | None = None,
        state: KVCache | None = None,
        targets: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> tuple[Tensor | TokenLossTerms, KVCache | None] | Tensor:
        """Logits (B, T, V), or with targets (B, T) TokenLossTerms; and the KV cache, changed in place.

        A classifier: scores (B, num_classes). See `LanguageModel.forward`.
        """
        steps = torch.arange(tokens.shape[1], device=tokens.device)
        position_ids = steps[None] if state is None else state.positions(len(steps))  # (1 or B, T)
        attn_mask, is_causal = self._attention_mask(position_ids, lengths, state, document_ids)
        rotation = None if self.rotation is None else self.rotation[position_ids]  # (1 or B, T, D / 2, 2)
        hidden = self.embedding(tokens)  # (B, T, C)
        if self.position_embedding is not None:
            hidden = hidden + self.position_embedding(position_ids)
        hidden = self.dropout(self.word_dropout(self.embedding_norm(hidden)))
        for index, block in enumerate(self.blocks):
            if self.gradient_checkpointing and self.training:
                arguments = (rotation, attn_mask, is_causal, None, 0, document_ids)
                hidden = checkpoint(block, hidden, *arguments, use_reentrant=False)
            else:
                hidden = block(hidden, rotation, attn_mask, is_causal, state, index, document_ids)
        if state is not None:
            state.advance(len(steps), lengths)
        if self.num_classes is not None:
            pooled = pool(hidden, lengths, self.pooling)  # before the norm: a token counts by the size of its state
            return self.head(self.dropout(self.norm(pooled)))
        hidden = self.norm(hidden)
        if targets is not None:
            return token_loss_terms(hidden, self.head.weight, None, targets, cap=self.logit_cap), state
        return softcap(self.head(hidden), self.logit_cap), state

    def init_state(self, batch_size: int = 1, max_tokens: int | None = None) -> KVCache:
        """An empty KV cache with room for `max_tokens` tokens, by default `context`."""
        return KVCache(batch_size, max_tokens or self.context, self.embedding.weight.device)

    def select_state(self, state: KVCache, rows: Tensor) -> KVCache:
        """The keys and values of these rows alone."""
        return state.select(rows)

    def truncate_state(self, state: KVCache, lengths: Tensor) -> KVCache:
        """Drop, in place, each row's keys and values beyond its first `lengths` (B,) tokens."""
        state.set_lengths(lengths)
        return state

    def _attention_mask(
        self, position_ids: Tensor, lengths: Tensor | None, state: KVCache | None, document_ids: Tensor | None
    ) -> tuple[Tensor | None, bool]:
        """attn_mask (1 or B, 1, 1 or T, S), None where none is needed; and is_causal, whether causality suffices."""
        time = position_ids.shape[1]
        if not self.causal:
            return None if lengths is None else sequence_mask(lengths.to(position_ids.device), time)[
                :, None, None
            ], False
        keys = time if state is None else state.longest + time
        if document_ids is None and (self.window is None or keys <= self.window):
            if keys == time:
                return None, True
            if time == 1 and state is not None and state.equal_lengths:
                return None, False
        attn_mask = causal_mask(position_ids, keys, self.window)
        if document_ids is not None:
            attn_mask = attn_mask & (document_ids.unsqueeze(2) == document_ids.unsqueeze(1)).unsqueeze(1)
        return attn_mask, False

    def _initialise(self, tied: bool, head_std: float) -> None:
        """Initialise weights: std 1/sqrt(fan_in), or `initializer_std`; residual outputs 0.02/sqrt(2 layers).

        So the residual stream is the embedding at first, whose std is 1 (GPT-2, section 2.3). The head's std is small,
        so that all tokens are about as likely at first. A head tied to the embedding has std 0.02, as GPT-2's.
        """
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            if parameter.ndim < 2 or "conv" in name:  # a convolution begins as the identity
                continue
            std = self.initializer_std or parameter.shape[1] ** -0.5
            if name.endswith(("attention.out_proj.weight", "feed_forward.down_proj.weight")):
                std = 0.02 / (2 * len(self.blocks)) ** 0.5
            elif name == "head.weight":
                std = head_std
            elif name in ("embedding.weight", "position_embedding.weight") and self.initializer_std is None:
                std = 0.02 if tied else 1.0
            nn.init.normal_(parameter, std=std)
        if tied:
            self.head.weight = self.embedding.weight


class Block(nn.Module):
    """Attention, then a feed-forward layer, each on the normalised residual stream and added to it.

    Args:
        attention: (B, T, C) -> (B, T, C).
        feed_forward: (B, T, C) -> (B, T, C).
        norms: before attention and before feed-forward.
        convs: between norm and attention, and between norm and feed-forward; None for none.
        dropout: fraction dropped of what the feed-forward layer adds.
    """

    def __init__(
        self,
        attention: SelfAttention,
        feed_forward: FeedForward,
        *,
        norms: Sequence[nn.Module],
        convs: Sequence[CausalConv | None] = (None, None),
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
        is_causal: bool = False,
        kv_cache: KVCache | None = None,
        index: int = 0,
        document_ids: Tensor | None = None,
    ) -> Tensor:
        """(B, T, C) -> (B, T, C).

        Args:
            hidden: the residual stream, (B, T, C).
            rotation: cosine and sine of the rotary positions, (1 or B, T, D / 2, 2).
            attn_mask: which keys each token attends to, (1 or B, 1, 1 or T, S); None for all.
            is_causal: without attn_mask, each token attends to those up to itself.
            kv_cache: keeps keys, values and the convolutions' inputs, changed in place.
            index: the block's number, by which the cache tells blocks apart.
            document_ids: the document of each token, (B, T), past whose start the convolutions don't reach.
        """
        normed = self.attention_norm(hidden)
        if self.attention_conv is not None:
            normed = self.attention_conv(normed, kv_cache, f"attention {index}", document_ids)
        hidden = hidden + self.attention(normed, rotation, attn_mask, is_causal, kv_cache, index)
        normed = self.feed_forward_norm(hidden)
        if self.feed_forward_conv is not None:
            normed = self.feed_forward_conv(normed, kv_cache, f"feed_forward {index}", document_ids)
        return hidden + self.dropout(self.feed_forward(normed))
