"""The table of contents of the tasks, the ways of learning. Adding one is its file and a row here. No torch."""

from functools import partial

from aibig.config.registry import Entry

nets = partial(Entry, family="nets", sections=("data",))
language = partial(Entry, family="language", sections=("data",))
q_learning = partial(Entry, family="dqn", sections=("env", "data"))

# Of the preset "rainbow" (arXiv 1710.02298, table 1); its noisy layers explore, so that no action need be random.
RAINBOW = {"n_step": 3, "double": True, "priority_exponent": 0.5, "epsilon_start": 0.0, "epsilon_end": 0.0}

TASKS = [
    nets("classification", "aibig.tasks.supervised:Classification", "which class"),
    nets("regression", "aibig.tasks.supervised:Regression", "how much"),
    language("text_classification", "aibig.tasks.text_classification:TextClassification", "which class a text is of"),
    language("language_modelling", "aibig.tasks.language_modelling:LanguageModelling", "the next token of a text"),
    language(
        "masked_language_modelling",
        "aibig.tasks.masked_language_modelling:MaskedLanguageModelling",
        "the masked tokens of a text, for encoders",
    ),
    q_learning(
        "q_learning", "aibig.tasks.q_learning.q_learning:QLearning", "acting for the highest return: (double) DQN"
    ),
    q_learning(
        "rainbow",
        "aibig.tasks.q_learning.q_learning:QLearning",
        "acting for the highest return, with Rainbow's settings; for the models 'rainbow' and 'rainbow_cnn'",
        defaults=RAINBOW,
    ),
]
