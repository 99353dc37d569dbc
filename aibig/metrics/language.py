"""Metrics of a language model's loss over a text, as pure functions. Knows no model and no task."""

from __future__ import annotations

import math


def language_metrics(total_loss: float, tokens: int, text_bytes: int | None = None) -> dict[str, float]:
    """Mean cross-entropy per token in nats, perplexity (its exponential), and bits per byte if bytes are known.

    Args:
        total_loss: summed cross-entropy of all tokens, in nats.
        tokens: number of predicted tokens.
        text_bytes: UTF-8 bytes of the text of these tokens; None if unknown.
    """
    loss = total_loss / tokens
    per_byte = {"bits_per_byte": total_loss / math.log(2) / text_bytes} if text_bytes else {}
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), **per_byte}
