"""Language models that classify: what they pool, what they may see, and what they share with the language model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import aibig
from aibig.layers.pooling import pool

WAYS: list[dict[str, Any]] = [
    {"name": "lstm"},
    {"name": "lstm", "bidirectional": True},
    {"name": "transformer"},
    {"name": "transformer", "causal": False},
]
BERT = {"name": "bert", "width": 16, "layers": 2, "heads": 2, "context": 9}


def make(pooling: str = "last", **settings: Any) -> Any:
    torch.manual_seed(0)
    name = settings.pop("name")
    return aibig.create_model(name, vocab_size=20, num_classes=3, pooling=pooling, **settings).eval()


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
@pytest.mark.parametrize("way", [*WAYS, BERT])
def test_padding_never_changes_a_score(way: dict[str, Any], pooling: str) -> None:
    model = make(pooling, **way)
    tokens, lengths = torch.randint(1, 20, (3, 9)), torch.tensor([9, 4, 1])
    other = tokens.clone()
    for row, length in enumerate(lengths.tolist()):
        other[row, length:] = torch.randint(20, (9 - length,))
    scores = model(tokens, lengths)
    assert scores.shape == (3, 3)
    torch.testing.assert_close(scores, model(other, lengths))
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(scores[row : row + 1], model(tokens[row : row + 1, :length]), rtol=1e-4, atol=1e-5)


def test_states_are_pooled_over_the_true_length() -> None:
    states = torch.tensor([[[1.0, -4.0], [3.0, -2.0], [9.0, 9.0]]])
    for how, expected in {"last": [3.0, -2.0], "mean": [2.0, -3.0], "max": [3.0, -2.0]}.items():
        assert pool(states, torch.tensor([2]), how).tolist() == [expected], how
        assert torch.equal(pool(states[:, :2], None, how), pool(states, torch.tensor([2]), how))


@pytest.mark.parametrize(("way", "sees"), [*zip(WAYS, [False, True, False, True], strict=True)])
def test_who_looks_ahead(way: dict[str, Any], sees: bool) -> None:
    """Whether the states of the first tokens depend on the last one."""
    model, seen = make(**way), []
    watched = model.lstm if way["name"] == "lstm" else model.blocks[0]
    watched.register_forward_hook(
        lambda module, inputs, found: seen.append(found[0] if isinstance(found, tuple) else found)
    )
    tokens = torch.randint(19, (1, 6))
    model(tokens)
    tokens[0, -1] = 19
    model(tokens)
    assert torch.equal(seen[0][:, :3], seen[1][:, :3]) != sees


@pytest.mark.parametrize("way", WAYS)
def test_its_body_is_the_language_models(way: dict[str, Any]) -> None:
    classifier = make(**way).state_dict()
    language = aibig.create_model(way["name"], vocab_size=20).state_dict()
    fitting = {name for name, value in language.items() if classifier[name].shape == value.shape}
    heads = {name for name in language if name.startswith("head")}
    second = {"lstm.weight_ih_l1"} if way.get("bidirectional") else set()  # which reads both directions of the first
    assert fitting >= language.keys() - heads - second and "embedding.weight" in fitting
    assert language.keys() <= classifier.keys()


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_dropped_words_are_dropped_whole_and_in_training_only(name: str) -> None:
    model = make(name=name, word_dropout=0.5)
    seen = []
    model.word_dropout.register_forward_hook(lambda module, inputs, found: seen.append(found))
    tokens = torch.randint(20, (4, 50))
    model(tokens)
    model.train()(tokens)
    gone = seen[1].eq(0).all(2)
    assert torch.equal(seen[0], model.embedding(tokens)) and 60 < gone.sum() < 140
    torch.testing.assert_close(seen[1][~gone], 2 * seen[0][~gone])
