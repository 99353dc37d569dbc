"""The table of contents of the datasets. Adding one is a function that returns its source and a line here. No torch."""

from __future__ import annotations

from typing import Any

from aibig.config.registry import Entry
from aibig.data.images import torchvision_table as vision_table

ARRAYS = "aibig.data.arrays:ArrayData"
IMAGES = "aibig.data.images.image_folder:ImageData"
TEXT = "aibig.data.text.text_data:TextData"

DATASETS = [
    Entry(
        "digits",
        "aibig.data.bundled:digits",
        "1,797 handwritten digits, 8x8 (scikit-learn)",
        "nets",
        wrapper=ARRAYS,
    ),
    Entry(
        "breast_cancer",
        "aibig.data.bundled:breast_cancer",
        "569 tumours, 2 classes (scikit-learn)",
        "nets",
        wrapper=ARRAYS,
    ),
    Entry(
        "wine",
        "aibig.data.bundled:wine",
        "178 wines, 3 classes (scikit-learn)",
        "nets",
        wrapper=ARRAYS,
    ),
    Entry(
        "iris",
        "aibig.data.bundled:iris",
        "150 irises, 3 classes (scikit-learn)",
        "nets",
        wrapper=ARRAYS,
    ),
    Entry(
        "diabetes",
        "aibig.data.bundled:diabetes",
        "442 patients, regression (scikit-learn)",
        "nets",
        wrapper=ARRAYS,
    ),
    Entry(
        "mnist",
        "aibig.data.images.torchvision_datasets:mnist",
        "70,000 handwritten digits, 28x28, from files under a root (torchvision)",
        "nets",
        wrapper=ARRAYS,
    ),
    Entry(
        "image_folder",
        "aibig.data.images.image_folder:image_folder",
        "pictures in a folder for each class",
        "nets",
        wrapper=IMAGES,
    ),
    Entry("csv", "aibig.data.tables.table:read_csv", "a CSV file: a header, then a row a line", "nets", wrapper=ARRAYS),
    Entry(
        "text",
        "aibig.data.text.text_data:read_text",
        "a UTF-8 text file, or a folder of them",
        "language",
        wrapper=TEXT,
    ),
    Entry(
        "python_docs",
        "aibig.data.bundled:python_docs",
        "CPython's help topics, English",
        "language",
        wrapper=TEXT,
    ),
    Entry(
        "text_labels",
        "aibig.data.text.text_labels:read_text_labels",
        "sentences with labels, a line each, tab- or comma-separated",
        "language",
        wrapper="aibig.data.text.text_labels:LabelledTexts",
    ),
    Entry(
        "sentences",
        "aibig.data.text.text_labels:read_sentences",
        "the sentences of such a table as a text, a document each, to learn its language from",
        "language",
        wrapper=TEXT,
    ),
    Entry("replay", "aibig.data.replay.replay:Replay", "the latest transitions of an agent, drawn at random", "dqn"),
    Entry(
        "frame_replay",
        "aibig.data.replay.frame_replay:FrameReplay",
        "of an agent that sees pictures, each kept once",
        "dqn",
    ),
    Entry(
        "stored_transitions",
        "aibig.data.replay.stored_transitions:StoredTransitions",
        "transitions from a file, to learn from without acting",
        "dqn",
    ),
]


def find_entry(name: str) -> Entry | None:
    """The row of a torchvision dataset's own name ("CIFAR10")."""
    return vision_table.find_entry(name)


def other_names() -> list[str]:
    """The names of torchvision's datasets."""
    return vision_table.names()


def entry_for_object(value: Any, words: str) -> Entry:
    """The row of an object in place of a name: a DataFrame, (X, y), Arrays, texts, or data made by hand.

    Raises UserError for others.
    """
    from aibig.data.objects import entry_of

    return entry_of(value, words)
