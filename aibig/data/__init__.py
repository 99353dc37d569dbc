"""The table of contents of the datasets. Adding one is a function that returns its source and a line here. No torch."""

from __future__ import annotations

from functools import partial
from typing import Any

from aibig.config.registry import Entry
from aibig.data.images import torchvision_table as vision_table

arrays = partial(Entry, family="nets", wrapper="aibig.data.arrays:ArrayData")
images = partial(Entry, family="nets", wrapper="aibig.data.images.image_folder:ImageData")
text = partial(Entry, family="language", wrapper="aibig.data.text.text_data:TextData")
replay = partial(Entry, family="dqn")

DATASETS = [
    arrays("digits", "aibig.data.bundled:digits", "1,797 handwritten digits, 8x8 (scikit-learn)"),
    arrays("breast_cancer", "aibig.data.bundled:breast_cancer", "569 tumours, 2 classes (scikit-learn)"),
    arrays("wine", "aibig.data.bundled:wine", "178 wines, 3 classes (scikit-learn)"),
    arrays("iris", "aibig.data.bundled:iris", "150 irises, 3 classes (scikit-learn)"),
    arrays("diabetes", "aibig.data.bundled:diabetes", "442 patients, regression (scikit-learn)"),
    arrays(
        "mnist",
        "aibig.data.images.torchvision_datasets:mnist",
        "70,000 handwritten digits, 28x28, from files under a root (torchvision)",
    ),
    images("image_folder", "aibig.data.images.image_folder:image_folder", "images in a folder for each class"),
    arrays("csv", "aibig.data.tables.table:read_csv", "a CSV file: a header, then a row a line"),
    text("text", "aibig.data.text.text_data:read_text", "a UTF-8 text file, or a folder of them"),
    text("python_docs", "aibig.data.bundled:python_docs", "CPython's help topics, English"),
    Entry(
        "text_labels",
        "aibig.data.text.text_labels:read_text_labels",
        "sentences with labels, a line each, tab- or comma-separated",
        "language",
        wrapper="aibig.data.text.text_labels:LabelledTexts",
    ),
    text(
        "sentences",
        "aibig.data.text.text_labels:read_sentences",
        "the sentences of such a table as documents, for a language model",
    ),
    replay(
        "replay",
        "aibig.data.replay.replay:TransitionReplayBuffer",
        "the latest transitions of an agent, sampled at random",
    ),
    replay(
        "frame_replay",
        "aibig.data.replay.frame_replay:FrameReplayBuffer",
        "the same for observations that are images, each frame stored once",
    ),
    replay(
        "stored_transitions",
        "aibig.data.replay.stored_transitions:StoredReplayBuffer",
        "transitions from a file, to learn from without acting",
    ),
]


def find_entry(name: str) -> Entry | None:
    """The row of a torchvision dataset.

    Args:
        name: as torchvision writes it ("CIFAR10").
    """
    return vision_table.find_entry(name)


def other_names() -> list[str]:
    """The names of torchvision's datasets."""
    return vision_table.names()


def entry_for_object(value: Any, description: str) -> Entry:
    """The row of a Python object in place of a name.

    Args:
        value: a DataFrame, (X, y), Arrays, a torch Dataset, texts, or an object of this package's data classes.
        description: names it in errors and listings.

    Raises:
        UserError: the object is no data.
    """
    from aibig.data.objects import entry_of

    return entry_of(value, description)
