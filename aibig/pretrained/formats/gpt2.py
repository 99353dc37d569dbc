"""GPT-2 as it is published: GPT2LMHeadModel and GPT2ForSequenceClassification. Knows no network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from aibig.pretrained.formats.base import PublishedFormat, read_activation


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `Gpt2`.

    Args:
        config: the contents of config.json.
    """
    return {
        "width": config["n_embd"],
        "layers": config["n_layer"],
        "heads": config["n_head"],
        **({"feed_forward": config["n_inner"]} if config.get("n_inner") else {}),
        "vocab_size": config["vocab_size"],
        "context": config["n_positions"],
        "activation": read_activation(config.get("activation_function", "gelu_new")),
        "norm_eps": config.get("layer_norm_epsilon", 1e-5),
        "tied": config.get("tie_word_embeddings", True),
    }


def transpose(name: str, tensor: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """Matrices of linear layers, which are published as (inputs, outputs), as (outputs, inputs).

    Args:
        name: as published.
        tensor: as published.
        settings: of the model; not needed.
    """
    return tensor.T if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")) else tensor


GPT2 = PublishedFormat(
    settings=settings,
    supported={"scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,)},
    prefix="transformer.",
    layers={
        "embedding": "wte",
        "position_embedding": "wpe",
        "blocks.N.attention_norm": "h.N.ln_1",
        "blocks.N.attention.qkv_proj": "h.N.attn.c_attn",
        "blocks.N.attention.out_proj": "h.N.attn.c_proj",
        "blocks.N.feed_forward_norm": "h.N.ln_2",
        "blocks.N.feed_forward.up_proj": "h.N.mlp.c_fc",
        "blocks.N.feed_forward.down_proj": "h.N.mlp.c_proj",
        "norm": "ln_f",
        "head": "lm_head|score",
    },
    transform=transpose,
)
