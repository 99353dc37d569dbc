"""The table of contents of the tasks, the ways of learning. Adding one is its file and a line here. No torch."""

from aibig.registry import Entry

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
        "the hidden tokens of a text, for encoders",
        "language",
        sections=("data",),
    ),
    Entry(
        "q_learning",
        "aibig.tasks.q_learning:QLearning",
        "acting for the highest return: (double) DQN",
        "dqn",
        sections=("env", "data"),
    ),
]
