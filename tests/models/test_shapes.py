"""The smallest member of each family has exactly the documented layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import aibig
from aibig.training.optimizers import builders as optimizer


def layers(model: nn.Module) -> list[str]:
    return [repr(module) for module in model.modules() if not list(module.children())]


def test_net_is_linear_relu_linear() -> None:
    assert layers(aibig.create_model("net")) == [
        "Linear(in_features=10, out_features=5, bias=True)",
        "ReLU()",
        "Linear(in_features=5, out_features=1, bias=True)",
    ]
    deep = aibig.create_model("net", in_features=4, hidden=[8, 6], out_features=3)
    assert [module.out_features for module in deep.modules() if isinstance(module, nn.Linear)] == [8, 6, 3]


def test_net_computes_its_formula() -> None:
    model = aibig.create_model("net", in_features=3, hidden=4, out_features=2).double()
    first, last = model.hidden_layers[0], model.head
    inputs = torch.randn(5, 3, dtype=torch.float64)
    expected = (inputs @ first.weight.T + first.bias).clamp(min=0) @ last.weight.T + last.bias
    torch.testing.assert_close(model(inputs), expected)


MEMBERS = 3


def ensemble_and_its_nets() -> tuple[nn.Module, list[nn.Module]]:
    """A net of several members, and plain nets with the weights of each."""
    sizes: dict[str, Any] = {"in_features": 4, "hidden": [6, 5], "out_features": 2}
    packed = aibig.create_model("net", members=MEMBERS, **sizes).double()
    nets = [aibig.create_model("net", **sizes).double() for _ in range(MEMBERS)]
    for member, net in enumerate(nets):
        for (_, plain), (_, packed_layer) in zip(linears(net), linears(packed), strict=True):
            plain.weight.data.copy_(packed_layer.weight[member].T)
            plain.bias.data.copy_(packed_layer.bias.view(MEMBERS, -1)[member])
    return packed, nets


def linears(model: nn.Module) -> list[tuple[str, Any]]:
    return [(name, module) for name, module in model.named_modules() if hasattr(module, "in_features")]


def test_an_ensemble_is_as_many_independent_nets() -> None:
    packed, nets = ensemble_and_its_nets()
    inputs, factors = torch.randn(7, 4, dtype=torch.float64), torch.randn(MEMBERS, 7, 2, dtype=torch.float64)
    outputs = packed(inputs)
    torch.testing.assert_close(outputs, torch.stack([net(inputs) for net in nets]))
    (outputs * factors).sum().backward()
    for member, net in enumerate(nets):
        (net(inputs) * factors[member]).sum().backward()
        for (name, plain), (_, packed_layer) in zip(linears(net), linears(packed), strict=True):
            weight, bias = packed_layer.weight.grad[member].T, packed_layer.bias.grad.view(MEMBERS, -1)[member]
            torch.testing.assert_close(weight, plain.weight.grad, msg=name)
            torch.testing.assert_close(bias, plain.bias.grad, msg=name)


def test_members_are_initialised_and_dropped_out_independently() -> None:
    sizes: dict[str, Any] = {"in_features": 300, "hidden": 200, "dropout": 0.5}
    packed, net = aibig.create_model("net", members=MEMBERS, **sizes), aibig.create_model("net", **sizes)
    weights = packed.hidden_layers[0].weight
    assert not torch.equal(weights[0], weights[1])
    for member in weights:
        torch.testing.assert_close(member.std(), net.hidden_layers[0].weight.std(), rtol=0.02, atol=0)
        torch.testing.assert_close(member.abs().max(), torch.tensor(300**-0.5), rtol=0.01, atol=0)
    left_out = packed.hidden_layers(torch.randn(1, 300)) == 0
    assert not torch.equal(left_out[0], left_out[1])


def test_weights_of_members_decay_and_their_biases_do_not() -> None:
    packed = aibig.create_model("net", members=MEMBERS)
    groups = optimizer.adamw(weight_decay=0.1)(packed).param_groups
    decayed = {id(parameter) for group in groups if group["weight_decay"] for parameter in group["params"]}
    assert {name for name, parameter in packed.named_parameters() if id(parameter) in decayed} == {
        "hidden_layers.0.weight",
        "head.weight",
    }


def test_dqn_is_linear_relu_linear() -> None:
    assert layers(aibig.create_model("dqn")) == [
        "Linear(in_features=4, out_features=16, bias=True)",
        "ReLU()",
        "Linear(in_features=16, out_features=4, bias=True)",
    ]


def test_lstm_is_embedding_lstm_linear() -> None:
    model = aibig.create_model("lstm", vocab_size=30)
    assert repr(model.embedding) == "Embedding(30, 50)"
    assert repr(model.lstm) == "LSTM(50, 128, num_layers=2, batch_first=True)"
    assert repr(model.head) == "Linear(in_features=128, out_features=30, bias=True)"


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_padding_never_changes_a_result(name: str) -> None:
    torch.manual_seed(0)
    model = aibig.create_model(name, vocab_size=20).eval()
    tokens, lengths = torch.randint(20, (3, 9)), torch.tensor([9, 4, 1])
    other = tokens.clone()
    for row, length in enumerate(lengths):
        other[row, length:] = torch.randint(20, (9 - int(length),))
    ours = model.next_token_probabilities(tokens, lengths)
    torch.testing.assert_close(ours, model.next_token_probabilities(other, lengths))
    torch.testing.assert_close(ours.sum(1), torch.ones(3))
    for row, length in enumerate(lengths):
        alone = model.next_token_probabilities(tokens[row : row + 1, : int(length)])
        torch.testing.assert_close(ours[row : row + 1], alone)


def test_lstm_state_after_lengths_is_that_of_the_true_end() -> None:
    torch.manual_seed(0)
    model = aibig.create_model("lstm", vocab_size=20)
    tokens = torch.randint(20, (2, 6))
    _, (hidden, cell) = model(tokens, torch.tensor([6, 3]))
    _, (alone, alone_cell) = model(tokens[1:, :3])
    torch.testing.assert_close(hidden[:, 1:], alone)
    torch.testing.assert_close(cell[:, 1:], alone_cell)


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_a_state_carries_the_tokens_before(name: str) -> None:
    torch.manual_seed(0)
    model = aibig.create_model(name, vocab_size=20).eval()
    tokens = torch.randint(20, (2, 12))
    whole, _ = model(tokens)
    first, state = model(tokens[:, :5], None, model.init_state(2))
    second, state = model(tokens[:, 5:6], None, state)
    third, _ = model(tokens[:, 6:], None, state)
    torch.testing.assert_close(torch.cat([first, second, third], 1), whole, rtol=1e-4, atol=1e-5)


def test_transformer_is_causal_and_knows_positions() -> None:
    torch.manual_seed(0)
    model = aibig.create_model("transformer", vocab_size=20).eval()
    tokens = torch.randint(20, (1, 8))
    changed = tokens.clone()
    changed[0, 5] = (tokens[0, 5] + 1) % 20
    before, after = model(tokens)[0], model(changed)[0]
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])
    swapped = tokens[:, [1, 0, *range(2, 8)]]
    assert not torch.allclose(model(swapped)[0][:, -1], before[:, -1])


def test_attention_is_softmax_of_scaled_products_of_normalised_vectors() -> None:
    from aibig.layers.attention.rotary import rotary_angles, rotate
    from aibig.layers.attention.self_attention import SelfAttention
    from aibig.layers.norm import RMSNorm

    torch.manual_seed(0)
    attention = SelfAttention(8, 2, query_key_norm=RMSNorm(4)).double()
    gain = torch.rand(4, dtype=torch.float64) + 0.5
    attention.norm.weight.data.copy_(gain)
    inputs = torch.randn(1, 5, 8, dtype=torch.float64)
    rotation = rotary_angles(torch.arange(5), 4)
    q, k, v = attention.qkv_proj(inputs).view(5, 3, 2, 4).unbind(1)  # (T, N, D) each
    mixed = torch.zeros(5, 2, 4, dtype=torch.float64)
    for head in range(2):
        normed = [x[:, head] / x[:, head].square().mean(1, keepdim=True).sqrt() for x in (q, k)]
        queries, keys = (rotate((x * gain).unsqueeze(1), rotation).squeeze(1) for x in normed)
        for time in range(5):
            weights = (queries[time] @ keys[: time + 1].T / 4**0.5).softmax(0)
            mixed[time, head] = weights @ v[: time + 1, head]
    torch.testing.assert_close(attention(inputs, rotation, is_causal=True)[0], attention.out_proj(mixed.reshape(5, 8)))


def test_rotation_depends_on_distance_alone() -> None:
    from aibig.layers.attention.rotary import rotary_angles, rotate

    query, key = torch.randn(2, 1, 1, 1, 8).double()
    angles = rotary_angles(torch.arange(20), 8).double()
    products = [(rotate(query, angles[t : t + 1]) * rotate(key, angles[t + 3 : t + 4])).sum() for t in (0, 4, 16)]
    torch.testing.assert_close(products[0], products[1])
    torch.testing.assert_close(products[0], products[2])
