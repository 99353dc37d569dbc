"""The table of contents: every model's name, class and facts. Adding one is its file and a line here. No torch."""

from aibig.registry import Entry

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
        "dqn",
        "aibig.models.dqn:Dqn",
        "Q-values of each action from an observation vector: Linear - ReLU - Linear",
        family="dqn",
        head="head",
        depth_order=("hidden_layers",),
    ),
    Entry(
        "lstm",
        "aibig.models.lstm:Lstm",
        "embedding - LSTM - Linear to the vocabulary, with lengths and carried memory",
        family="language",
        head="head",
        depth_order=("embedding", "lstm"),
    ),
    Entry(
        "transformer",
        "aibig.models.transformer:Transformer",
        "decoder-only Transformer: pre-norm, causal, rotary positions",
        family="language",
        head="head",
        depth_order=("embedding", "blocks"),
    ),
]
