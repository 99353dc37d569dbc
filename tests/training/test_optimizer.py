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


def changes_of(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 1) -> dict[str, Tensor]:
    """How far each parameter moves in a few updates with random gradients."""
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    return {name: parameter.detach() - before[name] for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_update_is_orthogonal(
    shape: tuple[int, int, int], dtype: torch.dtype, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(muon, "_matmul_dtype", lambda _: dtype)
    matrices = matrices_of(torch.logspace(0, -2, shape[1]), shape) * scale
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    result = left.mT @ muon.orthogonalize(matrices) @ right.mT  # diagonal, if the singular vectors stay
    values = result.diagonal(dim1=1, dim2=2)
    assert values.min() > 0.4 and values.max() < 1.6
    torch.testing.assert_close(result, torch.diag_embed(values), rtol=0, atol=1e-3 if dtype == torch.float32 else 0.25)


@pytest.mark.parametrize("values", [[1.0, 0.0, 0.0, 0.0], [0.0] * 4, [1.0, 1.0, 1.0, 1e-9]])
@pytest.mark.parametrize("width", [4, 16])
def test_matrices_without_full_rank_stay_in_bounds(values: list[float], width: int) -> None:
    results = torch.linalg.svdvals(muon.orthogonalize(matrices_of(torch.tensor(values), (1, 4, width))))
    for value, result in zip(values, results[0].tolist(), strict=True):
        assert 0.4 < result < 1.6 if value == 1.0 else result < 1e-4


def test_a_batch_is_what_each_alone_is() -> None:
    torch.manual_seed(0)
    matrices = torch.randn(5, 6, 20)
    alone = torch.cat([muon.orthogonalize(matrix[None]) for matrix in matrices])
    torch.testing.assert_close(muon.orthogonalize(matrices), alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_gradient_moves_nothing(dtype: torch.dtype, shape: tuple[int, int, int]) -> None:
    """Behind a head that begins with zeros, a model's first gradients are zeros."""
    assert torch.equal(muon.orthogonalize(torch.zeros(shape, dtype=dtype)), torch.zeros(shape, dtype=dtype))


@pytest.mark.parametrize("name", MODELS)
def test_hidden_matrices_get_muon_and_the_rest_adamw(name: str) -> None:
    settings, others = MODELS[name]
    model = aibig.create_model(name, **settings)
    optimizer = make_muon(lr=0.5, adamw_lr=0.25, weight_decay=0.1)(model)
    names = {parameter: name for name, parameter in model.named_parameters()}
    settings_of = {
        names[parameter]: (group["layouts"] is not None, group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    positions = {name for name in settings_of if "position_embedding" in name}
    assert not any(settings_of[name][0] for name in positions)
    for name, parameter in model.named_parameters():
        if name not in positions:
            decay = 0.1 if parameter.ndim >= 2 else 0.0
            uses_muon = parameter.ndim >= 2 and name not in others
            assert settings_of[name] == ((True, 0.5, decay) if uses_muon else (False, 0.25, decay)), name
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
    rates = {parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    attention = [block.attention.out_proj.weight for block in model.blocks]
    weights = (*attention, model.embedding.weight, model.head.weight)
    assert [rates[weight] for weight in weights] == [0.5, 1.0, 2.0, 4.0]
    model.blocks[0].requires_grad_(False)
    frozen = make_muon()(model)
    assert {parameter for group in frozen.param_groups for parameter in group["params"]} == {
        parameter for parameter in model.parameters() if parameter.requires_grad
    }


TRANSFORMER = {"vocab_size": 7, "width": 16, "heads": 2, "kv_heads": 1, "feed_forward": 12, "activation": "swiglu"}
STACKED: list[tuple[str, dict[str, Any], str, Callable[[Tensor], Tensor]]] = [
    ("transformer", TRANSFORMER, "blocks.0.attention.qkv_proj", lambda weight: weight.view(4, 8, 16)),
    ("transformer", TRANSFORMER, "blocks.0.attention.out_proj", lambda weight: weight.view(16, 2, 8).transpose(0, 1)),
    ("transformer", TRANSFORMER, "blocks.0.feed_forward.up_proj", lambda weight: weight.view(2, 12, 16)),
    ("transformer", TRANSFORMER, "blocks.0.feed_forward.down_proj", lambda weight: weight[None]),
    (
        "lstm",
        {"vocab_size": 7, "embedding": 6, "hidden": 10},
        "lstm.weight_ih_l0",
        lambda weight: weight.view(4, 10, 6),
    ),
    ("net", {"in_features": 5, "hidden": [4], "members": 3}, "hidden_layers.0", lambda weight: weight),
    ("cnn", {"widths": [6, 4]}, "stages.0.1.0", lambda weight: weight.flatten(1)[None]),
]


@pytest.mark.parametrize(("name", "settings", "layer", "split"), STACKED, ids=[layer for *_, layer, _ in STACKED])
def test_stacked_matrices_are_orthogonalized_each_for_itself(
    name: str, settings: dict[str, Any], layer: str, split: Callable[[Tensor], Tensor]
) -> None:
    """Each head's queries, keys and values, each head's part of the output, gates, members."""
    model = aibig.create_model(name, **settings)
    weight = layer if name == "lstm" else f"{layer}.weight"
    change = split(changes_of(model, make_muon(lr=0.5, weight_decay=0.0)(model))[weight])
    gradient = split(model.get_parameter(weight).grad)  # the momentum at first, but for its size
    is_wide = gradient.shape[1] <= gradient.shape[2]
    expected = muon.orthogonalize(gradient) if is_wide else muon.orthogonalize(gradient.mT).mT
    expected *= -0.5 * 0.2 * max(gradient.shape[1:]) ** 0.5  # arXiv 2502.16982, equation 4
    torch.testing.assert_close(change, expected, rtol=1e-3, atol=1e-4)


def test_weights_decay_by_their_rate() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3))
    first = model[0].weight.detach().clone()
    optimizer = make_muon(lr=0.5, weight_decay=0.1)(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(model[0].weight, first * (1 - 0.5 * 0.1))


def test_other_parameters_move_as_by_adamw() -> None:
    model = aibig.create_model("net", hidden=[6, 7])
    other = copy.deepcopy(model)
    same: dict[str, Any] = {"lr": 0.01, "betas": (0.9, 0.95), "weight_decay": 0.1}
    torch.manual_seed(1)
    changes = changes_of(model, make_muon(**same)(model), steps=3)
    torch.manual_seed(1)
    adamw_changes = changes_of(other, adamw(**same)(other), steps=3)
    for name in changes:
        assert torch.equal(changes[name], adamw_changes[name]) == (
            not name.startswith("hidden_layers.") or "bias" in name
        )


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_saved_state_goes_on_exactly(nesterov: bool) -> None:
    model = aibig.create_model("lstm", vocab_size=7, embedding=6, hidden=10)
    torch.manual_seed(1)
    optimizer = make_muon(nesterov=nesterov)(model)
    changes_of(model, optimizer, steps=3)
    twin = copy.deepcopy(model)
    other = make_muon(nesterov=nesterov)(twin)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for either, its_optimizer in ((model, optimizer), (twin, other)):
        torch.manual_seed(2)
        changes_of(either, its_optimizer, steps=2)
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize("poison", [1.0, float("nan"), float("inf")])
def test_the_device_can_skip(poison: float) -> None:
    """`found_inf` of 1 leaves weights and state as they are, of 0 changes nothing of the update."""
    model = aibig.create_model("net", hidden=[6, 7])
    optimizer = make_muon(lr=0.1)(model)
    assert optimizer._step_supports_amp_scaling, "or the host would check"
    torch.manual_seed(1)
    changes_of(model, optimizer, steps=2)
    twin, other = copy.deepcopy((model, optimizer))
    before = copy.deepcopy((list(model.parameters()), optimizer.state_dict()["state"]))
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, poison)
    optimizer.found_inf, optimizer.grad_scale = torch.tensor(1.0), None
    optimizer.step()
    now = list(model.parameters()), optimizer.state_dict()["state"]
    torch.testing.assert_close(now, before, rtol=0, atol=0)
    optimizer.found_inf = torch.tensor(0.0)
    for either, its_optimizer in ((model, optimizer), (twin, other)):
        torch.manual_seed(2)
        changes_of(either, its_optimizer)
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
    """The fraction of the error that is left after 100 updates, of inputs whose scales differ tenfold."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.logspace(0, -1, 16)
    inputs, solution = (torch.randn(rows, 16, generator=generator) for rows in (256, 16))
    model = nn.Sequential(nn.Linear(16, 16, bias=False), nn.Linear(16, 16, bias=False)).requires_grad_(False)
    nn.init.zeros_(model[0].weight).requires_grad_(True)
    nn.init.eye_(model[1].weight)
    optimizer = make(lr=lr, weight_decay=0.0)(model)
    errors = []
    for step in range(100):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / 100)
        error = (model(inputs * scales) - inputs * scales @ solution.T).square().mean()
        errors.append(error.item())
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    return errors[-1] / errors[0]


def test_it_solves_least_squares_better_than_plain_descent() -> None:
    plain = partial(sgd, momentum=0.0)
    assert least_squares(make_muon, 0.7) < min(least_squares(plain, lr) for lr in (3.0, 10.0, 20.0)) / 3
