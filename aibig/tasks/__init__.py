"""The table of the tasks. Adding one is its file and an entry here. Imports no torch."""

from functools import partial

from aibig.config.registry import Entry

nets = partial(Entry, family="nets", sections=("data",))
language = partial(Entry, family="language", sections=("data",))
q_learning = partial(Entry, family="dqn", sections=("env", "data"))

# The preset "rainbow" (arXiv 1710.02298, table 1); its noisy layers explore, so that epsilon is 0.
RAINBOW = {"n_step": 3, "double": True, "priority_exponent": 0.5, "epsilon_start": 0.0, "epsilon_end": 0.0}

TASKS = [
    nets("classification", "aibig.tasks.supervised:Classification", "classification with cross-entropy"),
    nets("regression", "aibig.tasks.supervised:Regression", "regression with mean squared error"),
    language("text_classification", "aibig.tasks.text_classification:TextClassification", "classification of texts"),
    language("language_modelling", "aibig.tasks.language_modelling:LanguageModelling", "prediction of the next token"),
    language(
        "masked_language_modelling",
        "aibig.tasks.masked_language_modelling:MaskedLanguageModelling",
        "prediction of masked tokens",
    ),
    q_learning(
        "q_learning", "aibig.tasks.q_learning.q_learning:QLearning", "Q-learning: (double) DQN and what came after"
    ),
    # for the models "rainbow" and "rainbow_cnn"
    q_learning("rainbow", "aibig.tasks.q_learning.q_learning:QLearning", "Q-learning as in Rainbow", defaults=RAINBOW),
]
