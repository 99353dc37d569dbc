"""The table of contents: every model's name, class and facts. Adding one is its file and a line here. No torch.

torchvision's models, which have a table of their own, can be named too.
"""

from __future__ import annotations

from typing import Any

from aibig.config.registry import Entry
from aibig.errors import UserError
from aibig.models.torchvision_table import rows

# arXiv 1710.02298, table 1: the parts of its network
RAINBOW = {"dueling": True, "noisy": True, "distribution": "categorical"}

MODELS = [
    Entry(
        "net",
        "aibig.models.net:Net",
        "Linear - ReLU - ... - Linear: two layers by default, deeper with a list of hidden sizes",
        family="nets",
        head="head",
        depth_order=("hidden_layers",),
    ),
    Entry(
        "cnn",
        "aibig.models.cnn:Cnn",
        "small convolutional net for images: batch norm, ReLU, mean over places, Linear",
        family="nets",
        head="head",
        depth_order=("stem", "stages"),
    ),
    Entry(
        "dqn",
        "aibig.models.dqn:Dqn",
        "Q-values of each action from an observation vector: Linear - ReLU - Linear",
        family="dqn",
        head="head",
        depth_order=("hidden_layers",),
    ),
    Entry(
        "rainbow",
        "aibig.models.dqn:Dqn",
        "the Q-network of Rainbow for an observation vector: dueling, noisy, distributions of 51 atoms",
        family="dqn",
        head="head",
        depth_order=("hidden_layers",),
        defaults=RAINBOW | {"hidden": [128, 128]},
    ),
    Entry(
        "nature_cnn",
        "aibig.models.q_cnn:QCnn",
        "Q-values from pictures: three convolutions and a hidden layer, as DQN's for Atari",
        family="dqn",
        head="head",
        depth_order=("trunk",),
    ),
    Entry(
        "impala_cnn",
        "aibig.models.q_cnn:QCnn",
        "Q-values from pictures: IMPALA's residual network",
        family="dqn",
        head="head",
        depth_order=("trunk",),
        defaults={"trunk": "impala"},
    ),
    Entry(
        "rainbow_cnn",
        "aibig.models.q_cnn:QCnn",
        "the Q-network of Rainbow for pictures: dueling, noisy, distributions of 51 atoms",
        family="dqn",
        head="head",
        depth_order=("trunk",),
        defaults=RAINBOW,
    ),
    Entry(
        "lstm",
        "aibig.models.lstm:Lstm",
        "embedding - LSTM - Linear to the vocabulary, with lengths and carried memory, or to classes of texts",
        family="language",
        head="head",
        depth_order=("embedding", "lstm"),
    ),
    Entry(
        "transformer",
        "aibig.models.transformer:Transformer",
        "decoder-only Transformer: pre-norm, causal, rotary positions; or a classifier of texts",
        family="language",
        head="head",
        depth_order=("embedding", "blocks"),
    ),
    Entry(
        "gpt",
        "aibig.models.gpt:Gpt",
        "the Transformer that learns most from few tokens: short convolutions, capped logits, norms without gain",
        family="language",
        head="head",
        depth_order=("embedding", "blocks"),
    ),
    Entry(
        "gpt2",
        "aibig.models.gpt2:Gpt2",
        "GPT-2, small to xl, laid out for its published weights; or a classifier of texts",
        family="language",
        head="head",
        depth_order=("embedding", "blocks"),
        model_type="gpt2",
    ),
    Entry(
        "llama",
        "aibig.models.llama:Llama",
        "Llama 3.1 and 3.2, 1b to 70b, laid out for their published weights; or a classifier of texts",
        family="language",
        head="head",
        depth_order=("embedding", "blocks"),
        model_type="llama",
    ),
    Entry(
        "bert",
        "aibig.models.bert:Bert",
        "BERT, base and large, an encoder laid out for its published weights; or a classifier of texts",
        family="language",
        head="head",
        depth_order=("embedding", "blocks"),
        model_type="bert",
    ),
]


def find_entry(name: str) -> Entry | None:
    """The row of one of torchvision's models, "resnet18" say."""
    return rows().get(name)


def other_names() -> list[str]:
    """The names of torchvision's models."""
    return list(rows())


def entry_for_object(value: Any, words: str) -> Entry:
    """The row of a model object in place of a name, which `create_model` made: another can't be saved by name.

    Raises UserError for others.
    """
    if getattr(value, "registered", None) is None:
        raise UserError(f"{words} was not made by aibig.create_model, so it can't be saved; see aibig.register_model")
    return Entry(words, lambda: value)
