"""Llama as it is published: LlamaForCausalLM and LlamaForSequenceClassification. Knows no network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from aibig.pretrained.formats.base import PublishedFormat


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `Llama`.

    Args:
        config: the contents of config.json.
    """
    width, heads = config["hidden_size"], config["num_attention_heads"]
    rotary = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})  # transformers 5 renamed it
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


def interleave_rotary(name: str, tensor: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """Rows of queries and keys, reordered so that the two channels of a rotary pair are neighbours.

    They are published half a head apart.

    Args:
        name: as published.
        tensor: as published; matrices of queries and keys are (heads D, C).
        settings: of the model; D is head_width, or else width / heads.
    """
    if not name.endswith(("q_proj.weight", "k_proj.weight")):
        return tensor
    head_width = settings["head_width"] or settings["width"] // settings["heads"]
    return tensor.unflatten(0, (-1, 2, head_width // 2)).transpose(1, 2).flatten(0, 2)


LLAMA = PublishedFormat(
    settings=settings,
    supported={"attention_bias": (False,), "mlp_bias": (False,), "hidden_act": ("silu",)},
    prefix="model.",
    layers={
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
    },
    transform=interleave_rotary,
)
