"""The LSTM as an AWD-LSTM: what it ties, projects and drops, and its state."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import aibig
from aibig.errors import UserError
from aibig.layers.dropout import LockedDropout

V = 20
PARTS: list[dict[str, Any]] = [
    {"weight_drop": 0.5},
    {"dropout": 0.5, "locked_dropout": True},
    {"projection": 8, "tied": True, "dropout": 0.3, "locked_dropout": True, "weight_drop": 0.3},
]


def make(**settings: Any) -> Any:
    torch.manual_seed(0)
    return aibig.create_model("lstm", **{"vocab_size": V, "embedding": 8, "hidden": 12, "layers": 3, **settings})


def some_tokens(rows: int = 3, time: int = 9) -> Tensor:
    return torch.randint(V, (rows, time), generator=torch.Generator().manual_seed(1))


def with_seed(model: Any, *inputs: Any) -> Any:
    torch.manual_seed(5)
    return model(*inputs)


def names_and_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def test_dropouts_add_no_parameter_so_that_checkpoints_load() -> None:
    plain = make()
    regularised = make(weight_drop=0.5, dropout=0.5, locked_dropout=True, embedding_dropout=0.5)
    assert names_and_shapes(regularised) == names_and_shapes(plain)
    assert {"embedding.weight", "lstm.weight_hh_l2", "lstm.bias_ih_l0", "head.bias"} <= plain.state_dict().keys()
    regularised.load_state_dict(plain.state_dict())
    tokens = some_tokens()
    assert torch.equal(regularised.eval()(tokens)[0], plain.eval()(tokens)[0])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_layer_by_layer_is_what_torch_does_at_once(bidirectional: bool) -> None:
    """A tiny weight_drop takes the path layer by layer, and drops nothing."""
    settings: dict[str, Any] = {"num_classes": 3, "bidirectional": bidirectional}
    plain, regularised = make(**settings), make(**settings, weight_drop=1e-12)
    regularised.load_state_dict(plain.state_dict())
    inputs, state = torch.randn(3, 9, 8), regularised.lstm.init_state(3)
    state = tuple(torch.randn_like(part) for part in state)
    for lengths in (None, torch.tensor([4, 9, 1])):
        (ours, our_state), (theirs, their_state) = (
            model.lstm(inputs, state, lengths) for model in (regularised, plain)
        )
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(our_state, their_state)


@pytest.mark.parametrize("settings", [{}, *PARTS])
def test_two_halves_are_the_whole(settings: dict[str, Any]) -> None:
    model, tokens = make(**settings).eval(), some_tokens()
    whole, end = model(tokens)
    first, state = model(tokens[:, :4], None, model.init_state(3))
    copies = [part.clone() for part in state]
    second, last = model(tokens[:, 4:], None, state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(last, end)
    assert all(torch.equal(part, clone) for part, clone in zip(state, copies, strict=True))  # not changed in place


@pytest.mark.parametrize("settings", [{}, *PARTS])
@pytest.mark.parametrize("training", [False, True])
def test_padding_changes_nothing_and_the_state_is_that_of_the_true_end(
    settings: dict[str, Any], training: bool
) -> None:
    model, tokens, lengths = make(**settings).train(training), some_tokens(), torch.tensor([4, 9, 1])
    other = tokens.clone()
    other[0, 4:] = other[2, 1:] = 0
    (logits, state), (again, state_again) = (with_seed(model, inputs, lengths) for inputs in (tokens, other))
    for row, length in enumerate(lengths.tolist()):
        assert torch.equal(logits[row, :length], again[row, :length])
    torch.testing.assert_close(state, state_again)
    if not training:
        _, alone = model(tokens[:1, :4])
        torch.testing.assert_close(model.select_state(state, torch.tensor([0])), alone)


def test_rows_of_a_state() -> None:
    model = make(projection=8)
    _, state = model(some_tokens())
    hidden, cell = model.select_state(state, torch.tensor([2, 0]))
    assert torch.equal(hidden, state[0][:, [2, 0]]) and torch.equal(cell, state[1][:, [2, 0]])
    assert not model.can_truncate
    with pytest.raises(UserError, match="can't truncate its state"):
        model.truncate_state(state, torch.tensor([1, 1, 1]))


def test_a_tied_head_is_the_embedding_also_when_copied_saved_and_loaded(tmp_path: Path) -> None:
    model = make(embedding=12, tied=True)
    aibig.save_model(model, tmp_path / "model")
    loaded: Any = aibig.load_model(tmp_path / "model")
    for tied in (model, loaded, copy.deepcopy(model)):
        assert tied.head.weight is tied.embedding.weight
        sizes = [sum(p.numel() for p in other.parameters()) for other in (tied, make(embedding=12))]
        assert sizes[0] == sizes[1] - V * 12
    tokens = some_tokens()
    assert torch.equal(loaded(tokens)[0], model.eval()(tokens)[0])
    model(tokens[:, :1])[0].sum().backward()
    assert model.embedding.weight.grad.any(1).all()  # the head's gradient: all words'


def test_a_classifier_has_a_head_of_its_own_though_its_language_model_is_tied() -> None:
    assert make(embedding=12, tied=True, num_classes=3)(some_tokens()).shape == (3, 3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tied": True}, r"the embedding \(8\) must be as wide as the LSTM's outputs \(12\); set embedding to 12"),
        ({"tied": True, "projection": 6}, r"the LSTM's outputs \(6\)"),
        ({"projection": 12}, r"projection 12 must be narrower than hidden \(12\)"),
    ],
)
def test_widths_that_do_not_fit_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make(**settings)


def test_documents_apart_are_refused() -> None:
    tokens = some_tokens()
    with pytest.raises(UserError, match=r"set data\.documents: concatenated"):
        make()(tokens, document_ids=torch.zeros_like(tokens))


def test_locked_dropout_drops_the_same_channels_at_all_times() -> None:
    dropped = LockedDropout(0.5)(torch.ones(4, 7, 100))
    assert torch.equal(dropped, dropped[:, :1].expand(4, 7, 100))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(dropped[0], dropped[1])


def test_locked_dropout_is_before_between_and_after_the_layers() -> None:
    model = make(hidden=100, layers=2, dropout=0.5, locked_dropout=True)
    with torch.no_grad():  # every output of a first layer, and so its second layer's share in the result, is the same
        for name, parameter in model.lstm.named_parameters():
            parameter.zero_() if "l0" in name else None
        model.lstm.bias_ih_l0.fill_(1.0)
        model.lstm.weight_hh_l1.zero_()
    outputs: list[Tensor] = []
    model.dropout.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    scores, _ = model(some_tokens(), targets=some_tokens())
    assert len(outputs) == 2 and torch.equal(outputs[1], scores.states[1])
    for output in outputs:
        dropped = output.eq(0)
        assert torch.equal(dropped, dropped[:, :1].expand_as(dropped)) and 0.3 < dropped.float().mean() < 0.7
    raw, _ = scores.states
    assert not torch.equal(raw[0, -1], raw[1, -1])  # masks differ by sequence
    changes = (raw[:, 1:] - raw[:, :-1]).abs().amax(2)  # a locked mask lets the states settle, fresh masks would not
    assert (changes[:, -1] < changes[:, 0]).all() and (changes[:, -1] < 0.05).all()


def test_weights_are_dropped_in_training_alone_and_those_kept_take_the_gradient() -> None:
    model, tokens = make(layers=2, weight_drop=0.5), some_tokens()
    before = copy.deepcopy(model.state_dict())
    model.eval()
    assert torch.equal(model(tokens)[0], model(tokens)[0])
    model.train()
    scores = model(tokens)[0]
    assert not torch.equal(scores, model(tokens)[0])
    scores.square().sum().backward()
    for name, parameter in model.named_parameters():
        share = parameter.grad.ne(0).float().mean()
        if "weight_hh" in name:
            assert 0.35 < share < 0.65, name
        elif "lstm" in name:
            assert share == 1, name
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_weight_drop_scales_what_it_keeps_and_is_the_same_at_all_times() -> None:
    model = make(embedding=8, hidden=12, layers=1, weight_drop=0.5)
    tokens = some_tokens()
    ours, _ = with_seed(model, tokens)
    torch.manual_seed(5)
    mask = torch.nn.functional.dropout(torch.ones(48, 12), 0.5)
    plain = make(layers=1)
    with torch.no_grad():
        plain.lstm.weight_hh_l0 *= mask
    torch.testing.assert_close(ours, plain(tokens)[0])


def test_embedding_dropout_drops_words_wherever_they_stand() -> None:
    model = make(vocab_size=200, embedding_dropout=0.5)
    embedded: list[Tensor] = []
    model.embedding_dropout.register_forward_hook(lambda module, inputs, output: embedded.append(output))
    tokens = torch.randint(200, (20, 40))
    model(tokens)
    model.eval()(tokens)
    dropped = embedded[0].eq(0).all(2)
    by_word = [dropped[tokens == word] for word in tokens.unique().tolist()]
    assert all(word.all() or not word.any() for word in by_word)
    assert 0.3 < sum(bool(word.all()) for word in by_word) / len(by_word) < 0.7
    torch.testing.assert_close(embedded[0][~dropped], 2 * embedded[1][~dropped])


def test_targets_give_the_losses_of_the_logits_and_the_states() -> None:
    model, tokens = make(dropout=0.5), some_tokens()
    targets = some_tokens().roll(1, 1)
    logits, _ = with_seed(model, tokens)
    scores, state = with_seed(model, tokens, None, None, targets)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    torch.testing.assert_close(scores.cross_entropy, expected.view(3, 9))
    raw, dropped = scores.states
    assert torch.equal(model.head(dropped), logits) and not torch.equal(raw, dropped)
    torch.testing.assert_close(raw[:, -1], state[0][-1])


@pytest.mark.parametrize("settings", [{}, *PARTS])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_runs_on_any_processor(settings: dict[str, Any], dtype: torch.dtype) -> None:
    model, tokens = make(**settings).eval(), some_tokens()
    expected, _ = model(tokens)
    with torch.autocast("cpu", dtype=dtype):
        logits, state = model(tokens)
        model(tokens, torch.tensor([9, 4, 1]), state)
        model.train()(tokens, None, state)[0].float().sum().backward()
    torch.testing.assert_close(logits.float(), expected, rtol=0.05, atol=0.05)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
