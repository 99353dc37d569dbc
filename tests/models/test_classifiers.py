"""Language models that classify: what they pool, what they attend to, and what they share with the language model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import aibig
from aibig.layers.pooling import pool

MODELS: list[dict[str, Any]] = [
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
@pytest.mark.parametrize("settings", [*MODELS, BERT])
def test_padding_never_changes_a_score(settings: dict[str, Any], pooling: str) -> None:
    model = make(pooling, **settings)
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
    for pooling, expected in {"last": [3.0, -2.0], "mean": [2.0, -3.0], "max": [3.0, -2.0]}.items():
        assert pool(states, torch.tensor([2]), pooling).tolist() == [expected], pooling
        assert torch.equal(pool(states[:, :2], None, pooling), pool(states, torch.tensor([2]), pooling))


@pytest.mark.parametrize(("settings", "is_bidirectional"), [*zip(MODELS, [False, True, False, True], strict=True)])
def test_which_are_bidirectional(settings: dict[str, Any], is_bidirectional: bool) -> None:
    """Whether the states of the first tokens depend on the last one."""
    model, states = make(**settings), []
    layer = model.lstm if settings["name"] == "lstm" else model.blocks[0]
    layer.register_forward_hook(
        lambda module, inputs, outputs: states.append(outputs[0] if isinstance(outputs, tuple) else outputs)
    )
    tokens = torch.randint(19, (1, 6))
    model(tokens)
    tokens[0, -1] = 19
    model(tokens)
    assert torch.equal(states[0][:, :3], states[1][:, :3]) != is_bidirectional


@pytest.mark.parametrize("settings", MODELS)
def test_its_body_is_the_language_models(settings: dict[str, Any]) -> None:
    classifier = make(**settings).state_dict()
    language = aibig.create_model(settings["name"], vocab_size=20).state_dict()
    shared = {name for name, value in language.items() if classifier[name].shape == value.shape}
    heads = {name for name in language if name.startswith("head")}
    second = (
        {"lstm.weight_ih_l1"} if settings.get("bidirectional") else set()
    )  # its input is both directions of the first
    assert shared >= language.keys() - heads - second and "embedding.weight" in shared
    assert language.keys() <= classifier.keys()


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_dropped_words_are_dropped_whole_and_in_training_only(name: str) -> None:
    model = make(name=name, word_dropout=0.5)
    embedded = []
    model.word_dropout.register_forward_hook(lambda module, inputs, outputs: embedded.append(outputs))
    tokens = torch.randint(20, (4, 50))
    model(tokens)
    model.train()(tokens)
    dropped = embedded[1].eq(0).all(2)
    assert torch.equal(embedded[0], model.embedding(tokens)) and 60 < dropped.sum() < 140
    torch.testing.assert_close(embedded[1][~dropped], 2 * embedded[0][~dropped])
