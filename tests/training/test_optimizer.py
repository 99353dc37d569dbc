"""Optimizers: which parameters are updated how, and Muon's update against what it approximates."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import aibig
from aibig.training.optimizers import muon
from aibig.training.optimizers.builders import adamw, sgd
from aibig.training.optimizers.builders import muon as make_muon

SHAPES = [(3, 12, 12), (2, 8, 40), (1, 2, 3)]
MODELS: dict[str, tuple[dict[str, Any], set[str]]] = {  # settings, and which of the weights are not Muon's
    "net": ({"hidden": [6, 7]}, {"head.weight"}),
    "cnn": ({}, {"head.weight"}),
    "lstm": ({"vocab_size": 11}, {"embedding.weight", "head.weight"}),
    "transformer": ({"vocab_size": 11}, {"embedding.weight", "head.weight"}),
    "gpt2": ({"vocab_size": 11, "context": 8, "width": 16, "layers": 1, "heads": 2}, {"embedding.weight"}),
}


def matrices_of(values: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Matrices with these singular values, (n,)."""
    matrices, height, width = shape
    left = torch.linalg.qr(torch.randn(matrices, height, height)).Q
    right = torch.linalg.qr(torch.randn(matrices, width, height)).Q
    return left * values @ right.mT


def moved(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 1) -> dict[str, Tensor]:
    """How far each parameter goes in a few updates, the gradients of which are drawn at random."""
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    for _ in range(steps):
        for one in model.parameters():
            one.grad = torch.randn_like(one)
        optimizer.step()
    return {name: one.detach() - before[name] for name, one in model.named_parameters()}


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_update_is_orthogonal(
    shape: tuple[int, int, int], dtype: torch.dtype, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(muon, "_dtype_of_products", lambda _: dtype)
    given = matrices_of(torch.logspace(0, -2, shape[1]), shape) * scale
    left, _, right = torch.linalg.svd(given, full_matrices=False)
    found = left.mT @ muon.orthogonalised(given) @ right.mT  # diagonal, if the singular vectors are those of `given`
    values = found.diagonal(dim1=1, dim2=2)
    assert values.min() > 0.4 and values.max() < 1.6
    torch.testing.assert_close(found, torch.diag_embed(values), rtol=0, atol=1e-3 if dtype == torch.float32 else 0.25)


@pytest.mark.parametrize("values", [[1.0, 0.0, 0.0, 0.0], [0.0] * 4, [1.0, 1.0, 1.0, 1e-9]])
@pytest.mark.parametrize("width", [4, 16])
def test_matrices_without_full_rank_stay_in_bounds(values: list[float], width: int) -> None:
    found = torch.linalg.svdvals(muon.orthogonalised(matrices_of(torch.tensor(values), (1, 4, width))))
    for value, other in zip(values, found[0].tolist(), strict=True):
        assert 0.4 < other < 1.6 if value == 1.0 else other < 1e-4


def test_a_batch_is_what_each_alone_is() -> None:
    torch.manual_seed(0)
    given = torch.randn(5, 6, 20)
    alone = torch.cat([muon.orthogonalised(one[None]) for one in given])
    torch.testing.assert_close(muon.orthogonalised(given), alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_gradient_moves_nothing(dtype: torch.dtype, shape: tuple[int, int, int]) -> None:
    """Behind a head that begins with zeros, a model's first gradients are zeros."""
    assert torch.equal(muon.orthogonalised(torch.zeros(shape, dtype=dtype)), torch.zeros(shape, dtype=dtype))


@pytest.mark.parametrize("name", MODELS)
def test_hidden_matrices_are_told_from_the_rest(name: str) -> None:
    settings, others = MODELS[name]
    model = aibig.create_model(name, **settings)
    optimizer = make_muon(lr=0.5, adamw_lr=0.25, weight_decay=0.1)(model)
    names = {one: name for name, one in model.named_parameters()}
    found = {
        names[one]: (group["layouts"] is not None, group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for one in group["params"]
    }
    expected = {
        name: (True, 0.5, 0.1) if one.ndim >= 2 and name not in others else (False, 0.25, 0.1 if one.ndim >= 2 else 0.0)
        for name, one in model.named_parameters()
    }
    assert {name: one for name, one in found.items() if "positions" not in name} == {
        name: one for name, one in expected.items() if "positions" not in name
    }
    assert not any(orthogonal for name, (orthogonal, *_) in found.items() if "positions" in name)
    assert optimizer.param_groups[0]["layouts"], "whose learning rate is logged"


def test_a_model_that_is_not_registered_ends_with_its_head() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3), nn.ReLU())
    optimizer = make_muon(lr=0.5, head_lr=0.125)(model)
    assert [(group["lr"], group["params"]) for group in optimizer.param_groups if group["layouts"] is not None] == [
        (0.5, [model[0].weight])
    ]
    assert [group["params"] for group in optimizer.param_groups if group["lr"] == 0.125] == [
        [model[2].weight],
        [model[2].bias],
    ]


def test_rates_of_layers_and_parts() -> None:
    model = aibig.create_model("transformer", vocab_size=7, width=8, heads=2, layers=2)
    model.learning_rate_factors = {"blocks.0.attention.out_proj.weight": 0.5, "embedding.weight": 0.25}
    optimizer = make_muon(lr=1.0, adamw_lr=2.0, embedding_lr=8.0, head_lr=4.0)(model)
    rates = {one: group["lr"] for group in optimizer.param_groups for one in group["params"]}
    attention = [block.attention.out_proj.weight for block in model.blocks]
    assert [rates[one] for one in (*attention, model.embedding.weight, model.head.weight)] == [0.5, 1.0, 2.0, 4.0]
    model.blocks[0].requires_grad_(False)
    frozen = make_muon()(model)
    assert {one for group in frozen.param_groups for one in group["params"]} == {
        one for one in model.parameters() if one.requires_grad
    }


TRANSFORMER = {"vocab_size": 7, "width": 16, "heads": 2, "kv_heads": 1, "feed_forward": 12, "activation": "swiglu"}
STACKED: list[tuple[str, dict[str, Any], str, Callable[[Tensor], Tensor]]] = [
    ("transformer", TRANSFORMER, "blocks.0.attention.qkv_proj", lambda one: one.view(4, 8, 16)),
    ("transformer", TRANSFORMER, "blocks.0.attention.out_proj", lambda one: one.view(16, 2, 8).transpose(0, 1)),
    ("transformer", TRANSFORMER, "blocks.0.feed_forward.up_proj", lambda one: one.view(2, 12, 16)),
    ("transformer", TRANSFORMER, "blocks.0.feed_forward.down_proj", lambda one: one[None]),
    ("lstm", {"vocab_size": 7, "embedding": 6, "hidden": 10}, "lstm.weight_ih_l0", lambda one: one.view(4, 10, 6)),
    ("net", {"in_features": 5, "hidden": [4], "members": 3}, "hidden_layers.0", lambda one: one),
    ("cnn", {"widths": [6, 4]}, "stages.0.1.0", lambda one: one.flatten(1)[None]),
]


@pytest.mark.parametrize(("name", "settings", "layer", "cut"), STACKED, ids=[layer for *_, layer, _ in STACKED])
def test_what_a_weight_stacks_is_told_apart(
    name: str, settings: dict[str, Any], layer: str, cut: Callable[[Tensor], Tensor]
) -> None:
    """Each head's queries, keys and values, each head's part of the output, gates, members."""
    model = aibig.create_model(name, **settings)
    weight = layer if name == "lstm" else f"{layer}.weight"
    change = cut(moved(model, make_muon(lr=0.5, weight_decay=0.0)(model))[weight])
    gradient = cut(model.get_parameter(weight).grad)  # the momentum at first, but for its size
    lying = gradient.shape[1] <= gradient.shape[2]
    expected = muon.orthogonalised(gradient) if lying else muon.orthogonalised(gradient.mT).mT
    expected *= -0.5 * 0.2 * max(gradient.shape[1:]) ** 0.5  # arXiv 2502.16982, equation 4
    torch.testing.assert_close(change, expected, rtol=1e-3, atol=1e-4)


def test_weights_decay_by_their_rate() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3))
    first = model[0].weight.detach().clone()
    optimizer = make_muon(lr=0.5, weight_decay=0.1)(model)
    for one in model.parameters():
        one.grad = torch.zeros_like(one)
    optimizer.step()
    torch.testing.assert_close(model[0].weight, first * (1 - 0.5 * 0.1))


def test_what_is_no_matrix_moves_as_adamw_says() -> None:
    model = aibig.create_model("net", hidden=[6, 7])
    other = copy.deepcopy(model)
    same: dict[str, Any] = {"lr": 0.01, "betas": (0.9, 0.95), "weight_decay": 0.1}
    torch.manual_seed(1)
    ours = moved(model, make_muon(**same)(model), steps=3)
    torch.manual_seed(1)
    theirs = moved(other, adamw(**same)(other), steps=3)
    for name in ours:
        assert torch.equal(ours[name], theirs[name]) == (not name.startswith("hidden_layers.") or "bias" in name)


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_saved_state_goes_on_exactly(nesterov: bool) -> None:
    model = aibig.create_model("lstm", vocab_size=7, embedding=6, hidden=10)
    torch.manual_seed(1)
    optimizer = make_muon(nesterov=nesterov)(model)
    moved(model, optimizer, steps=3)
    twin = copy.deepcopy(model)
    other = make_muon(nesterov=nesterov)(twin)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, optimizing in ((model, optimizer), (twin, other)):
        torch.manual_seed(2)
        moved(one, optimizing, steps=2)
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize("poison", [1.0, float("nan"), float("inf")])
def test_the_device_can_skip(poison: float) -> None:
    """`found_inf` of 1 leaves weights and state as they are, of 0 changes nothing of the update."""
    model = aibig.create_model("net", hidden=[6, 7])
    optimizer = make_muon(lr=0.1)(model)
    assert optimizer._step_supports_amp_scaling, "or the host would look"
    torch.manual_seed(1)
    moved(model, optimizer, steps=2)
    twin, other = copy.deepcopy((model, optimizer))
    before = copy.deepcopy((list(model.parameters()), optimizer.state_dict()["state"]))
    for one in model.parameters():
        one.grad = torch.full_like(one, poison)
    optimizer.found_inf, optimizer.grad_scale = torch.tensor(1.0), None
    optimizer.step()
    after = list(model.parameters()), optimizer.state_dict()["state"]
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    optimizer.found_inf = torch.tensor(0.0)
    for one, optimizing in ((model, optimizer), (twin, other)):
        torch.manual_seed(2)
        moved(one, optimizing)
    torch.testing.assert_close(list(model.parameters()), list(twin.parameters()), rtol=0, atol=0)


def test_a_weight_without_gradient_stays() -> None:
    model = aibig.create_model("net", hidden=[6, 7])
    before = model.hidden_layers[0].weight.detach().clone()
    optimizer = make_muon(lr=0.1)(model)
    model.hidden_layers[2].weight.grad = torch.ones_like(model.hidden_layers[2].weight)
    optimizer.step()
    assert torch.equal(model.hidden_layers[0].weight, before)
    optimizer.zero_grad()
    optimizer.step()


def least_squares(make: Any, lr: float) -> float:
    """What is left of the error after 100 updates, of inputs whose scales differ tenfold."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.logspace(0, -1, 16)
    inputs, wanted = (torch.randn(rows, 16, generator=generator) for rows in (256, 16))
    model = nn.Sequential(nn.Linear(16, 16, bias=False), nn.Linear(16, 16, bias=False)).requires_grad_(False)
    nn.init.zeros_(model[0].weight).requires_grad_(True)
    nn.init.eye_(model[1].weight)
    optimizer = make(lr=lr, weight_decay=0.0)(model)
    errors = []
    for step in range(100):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / 100)
        error = (model(inputs * scales) - inputs * scales @ wanted.T).square().mean()
        errors.append(error.item())
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    return errors[-1] / errors[0]


def test_it_solves_least_squares_better_than_plain_descent() -> None:
    plain = partial(sgd, momentum=0.0)
    assert least_squares(make_muon, 0.7) < min(least_squares(plain, lr) for lr in (3.0, 10.0, 20.0)) / 3
