"""A Transformer language model, or classifier of texts. Knows no text: tokens are numbers.

B batch, T time, V vocabulary, C channels.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from aibig.errors import UserError
from aibig.layers.attention import KeysAndValues, SelfAttention, rotary_angles
from aibig.layers.language_model import LanguageModel
from aibig.layers.norm import RMSNorm
from aibig.layers.pooling import is_real, pool
from aibig.settings import Fraction, PositiveInt


class Transformer(LanguageModel):
    """Embedding - pre-norm blocks - norm - Linear, causal, with rotary positions and no biases.

    vocab_size: V. context: tokens that it is trained on at once; generation keeps to it. width: C, a multiple of
    twice the heads. layers: blocks. dropout: on the embedding and on what each block adds. word_dropout: of whole
    tokens.
    num_classes: for a classifier of texts: its head is Linear(C, num_classes) on the states of all tokens pooled by
    `pooling` (see aibig.layers.pooling), with dropout before it, and need not be `causal`.

    Raises UserError for widths that don't fit, and for a language model that is not causal.
    """

    def __init__(
        self,
        *,
        vocab_size: PositiveInt,
        context: PositiveInt = 64,
        width: PositiveInt = 128,
        layers: PositiveInt = 4,
        heads: PositiveInt = 4,
        dropout: Fraction = 0.0,
        word_dropout: Fraction = 0.0,
        num_classes: PositiveInt | None = None,
        pooling: Literal["last", "mean", "max"] = "last",
        causal: bool = True,
    ) -> None:
        super().__init__()
        if not causal and num_classes is None:
            raise UserError("causal: a language model may not look ahead; leave it out, or set num_classes")
        if width % (2 * heads):
            raise UserError(f"width {width} must be a multiple of twice the heads ({2 * heads})")
        self.vocab_size, self.context, self.head_width = vocab_size, context, width // heads
        self.num_classes, self.pooling, self.causal = num_classes, pooling, causal
        self.embedding = nn.Embedding(vocab_size, width)
        self.dropout = nn.Dropout(dropout)
        self.word_dropout = nn.Dropout1d(word_dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout, causal) for _ in range(layers))
        self.norm = RMSNorm(width)
        self.head = nn.Linear(width, num_classes or vocab_size, bias=False)
        self._initialise()

    def forward(
        self, tokens: Tensor, lengths: Tensor | None = None, memory: list[KeysAndValues] | None = None
    ) -> tuple[Tensor, list[KeysAndValues] | None] | Tensor:
        """tokens (B, T) -> logits (B, T, V), memory: keys and values of all tokens so far, by block.

        A classifier: scores (B, num_classes).

        If causal, padding on the right (beyond `lengths`) never changes what stands before it; else it is masked.
        Memory is kept only if one was given; with it, all sequences of the batch must be of full length.
        """
        past = memory[0][0].shape[2] if memory else 0
        rotation = rotary_angles(past, tokens.shape[1], self.head_width, tokens.device)
        visible = None if self.causal or lengths is None else is_real(lengths.to(tokens.device), tokens.shape[1])
        hidden = self.dropout(self.word_dropout(self.embedding(tokens)))  # (B, T, C)
        kept: list[KeysAndValues] = []
        for number, block in enumerate(self.blocks):
            hidden, keys_and_values = block(hidden, rotation, memory[number] if memory else None, visible)
            kept.append(keys_and_values)
        if self.num_classes is not None:
            pooled = pool(hidden, lengths, self.pooling)  # before the norm: a token counts by the size of its state
            return self.head(self.dropout(self.norm(pooled)))
        return self.head(self.norm(hidden)), kept if memory is not None else None

    def start_memory(self) -> list[KeysAndValues]:
        """No keys and values yet."""
        return []

    def _initialise(self) -> None:
        """Normal weights of 1/sqrt(inputs), so that scales stay; small ones where the stream is added to.

        What is added falls with depth (GPT-2, section 2.3), so that the stream begins as the embedding, of
        scale 1; the head begins close to zero, so that all tokens begin about as likely.
        """
        for name, parameter in self.named_parameters():
            if parameter.ndim >= 2:
                std = parameter.shape[1] ** -0.5
                if name == "embedding.weight":
                    std = 1.0
                elif name == "head.weight":
                    std = 0.02
                elif name.endswith(("attention.out.weight", "down.weight")):
                    std = 0.02 / (2 * len(self.blocks)) ** 0.5
                nn.init.normal_(parameter, std=std)


class Block(nn.Module):
    """Attention, then a feed-forward layer, each on the normalised stream and added to it."""

    def __init__(self, width: int, heads: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(width)
        self.attention = SelfAttention(width, heads, dropout, causal)
        self.feed_forward_norm = RMSNorm(width)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        hidden: Tensor,
        rotation: Tensor,
        past: KeysAndValues | None = None,
        visible: Tensor | None = None,
    ) -> tuple[Tensor, KeysAndValues]:
        """(B, T, C) -> (B, T, C), and the block's keys and values."""
        mixed, keys_and_values = self.attention(self.attention_norm(hidden), rotation, past, visible)
        hidden = hidden + mixed
        # Squared ReLU: as good as GELU and cheaper (Primer, arXiv 2109.08668, section 4)
        raised = F.relu(self.up(self.feed_forward_norm(hidden))).square()
        return hidden + self.dropout(self.down(raised)), keys_and_values
