"""The table of models: each one's name, class and facts. Adding one is a file and a row here. Imports no torch.

torchvision's models, which have a table of their own, can be named too.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from aibig.config.registry import Entry
from aibig.errors import UserError
from aibig.models.torchvision_table import rows

# the parts of Rainbow's network (arXiv 1710.02298, table 1)
RAINBOW = {"dueling": True, "noisy": True, "distribution": "categorical"}

# What learned most from few tokens, as far as was measured here. The convolutions gain most; LayerNorm is faster than
# RMSNorm on a CPU; a head of zeros begins with all tokens equally likely.
GPT = {
    **{"context": 256, "width": 384, "layers": 6, "heads": 6, "rotary_base": 1_000.0},
    **{"norm": "layer", "norm_gain": False, "embedding_norm": True, "conv": 3, "head_std": 0.0, "logit_cap": 15.0},
}

net = partial(Entry, family="nets", head="head")
q_network = partial(Entry, family="dqn", head="head")
language_model = partial(Entry, family="language", head="head", depth_order=("embedding", "blocks"))

MODELS = [
    net(
        "net",
        "aibig.models.net:Net",
        "Linear - ReLU - ... - Linear: two layers by default, deeper with a list of hidden sizes",
        depth_order=("hidden_layers",),
    ),
    net(
        "cnn",
        "aibig.models.cnn:Cnn",
        "small convolutional net for images: batch norm, ReLU, global average pooling, Linear",
        depth_order=("stem", "stages"),
    ),
    q_network(
        "dqn",
        "aibig.models.dqn:Dqn",
        "Q-values of each action from an observation vector: Linear - ReLU - Linear",
        depth_order=("hidden_layers",),
    ),
    q_network(
        "rainbow",
        "aibig.models.dqn:Dqn",
        "the Q-network of Rainbow for an observation vector: dueling, noisy, distributions of 51 atoms",
        depth_order=("hidden_layers",),
        defaults=RAINBOW | {"hidden": [128, 128]},
    ),
    q_network(
        "nature_cnn",
        "aibig.models.q_cnn:QCnn",
        "Q-values from images: three convolutions and a hidden layer, as DQN's for Atari",
        depth_order=("trunk",),
    ),
    q_network(
        "impala_cnn",
        "aibig.models.q_cnn:QCnn",
        "Q-values from images: IMPALA's residual network",
        depth_order=("trunk",),
        defaults={"trunk": "impala"},
    ),
    q_network(
        "rainbow_cnn",
        "aibig.models.q_cnn:QCnn",
        "the Q-network of Rainbow for images: dueling, noisy, distributions of 51 atoms",
        depth_order=("trunk",),
        defaults=RAINBOW,
    ),
    language_model(
        "lstm",
        "aibig.models.lstm:Lstm",
        "LSTM language model: embedding - LSTM - Linear, with lengths and carried state; or a text classifier",
        depth_order=("embedding", "lstm"),
    ),
    language_model(
        "transformer",
        "aibig.models.transformer:Transformer",
        "decoder-only Transformer: pre-norm, causal, rotary positions; or a text classifier",
    ),
    language_model(
        "gpt",
        "aibig.models.transformer:Transformer",
        "the Transformer that learns most from few tokens, by the optimizer muon: short convolutions, capped logits",
        defaults=GPT,
    ),
    language_model(
        "gpt2",
        "aibig.models.gpt2:Gpt2",
        "GPT-2, small to xl, with the layout of its published weights; or a text classifier",
        model_type="gpt2",
        published="aibig.pretrained.formats.gpt2:GPT2",
    ),
    language_model(
        "llama",
        "aibig.models.llama:Llama",
        "Llama 3.1 and 3.2, 1b to 70b, with the layout of their published weights; or a text classifier",
        model_type="llama",
        published="aibig.pretrained.formats.llama:LLAMA",
    ),
    language_model(
        "bert",
        "aibig.models.bert:Bert",
        "BERT, base and large, an encoder with the layout of its published weights; or a text classifier",
        model_type="bert",
        published="aibig.pretrained.formats.bert:BERT",
    ),
]


def find_entry(name: str) -> Entry | None:
    """The row of one of torchvision's models.

    Args:
        name: of the model, such as "resnet18".
    """
    return rows().get(name)


def other_names() -> list[str]:
    """The names of torchvision's models."""
    return list(rows())


def entry_for_object(value: Any, description: str) -> Entry:
    """The row of a model object that stands in place of a name.

    Args:
        value: the model.
        description: its words in an error.

    Raises:
        UserError: `create_model` did not make it, so that it can't be saved by name.
    """
    if getattr(value, "registered", None) is None:
        raise UserError(
            f"{description} was not made by aibig.create_model, so it can't be saved; see aibig.register_model"
        )
    return Entry(description, lambda: value)
