"""The table of contents of the tasks, the ways of learning. Adding one is its file and a line here. No torch."""

from aibig.config.registry import Entry

TASKS = [
    Entry("classification", "aibig.tasks.supervised:Classification", "which class", "nets", sections=("data",)),
    Entry("regression", "aibig.tasks.supervised:Regression", "how much", "nets", sections=("data",)),
    Entry(
        "text_classification",
        "aibig.tasks.text_classification:TextClassification",
        "which class a text is of",
        "language",
        sections=("data",),
    ),
    Entry(
        "language_modelling",
        "aibig.tasks.language_modelling:LanguageModelling",
        "the next token of a text",
        "language",
        sections=("data",),
    ),
    Entry(
        "masked_language_modelling",
        "aibig.tasks.masked_language_modelling:MaskedLanguageModelling",
        "the masked tokens of a text, for encoders",
        "language",
        sections=("data",),
    ),
    Entry(
        "q_learning",
        "aibig.tasks.q_learning.q_learning:QLearning",
        "acting for the highest return: (double) DQN",
        "dqn",
        sections=("env", "data"),
    ),
    Entry(
        "rainbow",
        "aibig.tasks.q_learning.q_learning:QLearning",
        "acting for the highest return, with Rainbow's settings; for the models 'rainbow' and 'rainbow_cnn'",
        "dqn",
        sections=("env", "data"),
        # arXiv 1710.02298, table 1; noisy layers explore, so that no action need be random
        defaults={"n_step": 3, "double": True, "priority_exponent": 0.5, "epsilon_start": 0.0, "epsilon_end": 0.0},
    ),
]
