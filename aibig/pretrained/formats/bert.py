"""BERT as it is published: BertForMaskedLM and BertForSequenceClassification. Knows no network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aibig.pretrained.formats.base import PublishedFormat, read_activation


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `Bert`.

    Args:
        config: the contents of config.json.
    """
    return {
        "width": config["hidden_size"],
        "layers": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "feed_forward": config["intermediate_size"],
        "vocab_size": config["vocab_size"],
        "context": config["max_position_embeddings"],
        "token_types": config["type_vocab_size"],
        "activation": read_activation(config["hidden_act"]),
        "norm_eps": config["layer_norm_eps"],
    }


BERT = PublishedFormat(
    settings=settings,
    supported={"position_embedding_type": ("absolute", None), "is_decoder": (False, None)},
    prefix="bert.",
    layers={
        "embedding": "embeddings.word_embeddings",
        "position_embedding": "embeddings.position_embeddings",
        "token_type_embedding": "embeddings.token_type_embeddings",
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
    },
)
