"""The encoder: it attends in both directions but not to padding, and gives losses at masked positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

import aibig

TINY = {"vocab_size": 20, "width": 16, "layers": 2, "heads": 2, "context": 9}


def make(**settings: Any) -> Any:
    torch.manual_seed(0)
    return aibig.create_model("bert", **TINY | settings).eval()


def test_each_position_attends_to_the_whole_text_and_no_padding() -> None:
    model = make()
    tokens, lengths = torch.randint(19, (2, 9)), torch.tensor([9, 5])
    logits, state = model(tokens, lengths)
    assert logits.shape == (2, 9, 20) and state is None
    alone, _ = model(tokens[1:, :5])
    torch.testing.assert_close(logits[1:, :5], alone)
    tokens[:, 4] = 19
    changed, _ = model(tokens, lengths)
    assert (changed[:, 0] != logits[:, 0]).any(1).all()


def test_losses_at_masked_positions_are_those_of_the_logits_there() -> None:
    model = make(dropout=0.0).train()
    tokens, lengths, targets = torch.randint(20, (2, 9)), torch.tensor([9, 5]), torch.tensor([3, 4, 5])
    positions = torch.tensor([0, 8, 9 + 2])
    scores, state = model(tokens, lengths, targets=targets, masked_positions=positions)
    logits, _ = model(tokens, lengths)
    expected = F.cross_entropy(logits.flatten(0, 1)[positions], targets, reduction="none")
    torch.testing.assert_close(scores.cross_entropy, expected)
    assert state is None


def test_a_classifier_pools_the_first_token_and_has_no_other_head() -> None:
    classifier, model = make(num_classes=3), make()
    tokens = torch.randint(20, (2, 9))
    states: list[torch.Tensor] = []
    classifier.blocks[-1].register_forward_hook(lambda module, inputs, outputs: states.append(outputs))
    scores = classifier(tokens)
    torch.testing.assert_close(scores, classifier.head(torch.tanh(classifier.pooler(states[0][:, 0]))))
    shared = {name for name in model.state_dict() if not name.startswith(("head", "transform"))}
    assert classifier.state_dict().keys() == shared | {"pooler.weight", "pooler.bias", "head.weight", "head.bias"}


def test_token_types_matter() -> None:
    model, tokens = make(), torch.randint(20, (1, 9))
    first = torch.zeros_like(tokens)
    torch.testing.assert_close(model(tokens)[0], model(tokens, token_type_ids=first)[0])
    assert not torch.allclose(model(tokens)[0], model(tokens, token_type_ids=first + 1)[0])


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(aibig.UserError, match="width 18 must be a multiple of the heads"):
        make(width=18, heads=4)
