"""Q-networks: their parts compose, and what does not go together is refused."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import aibig
from aibig.errors import UserError
from aibig.layers.q.noisy import NoisyLinear, noise_enabled, reset_noise, set_noise_enabled
from aibig.layers.q.running_norm import RunningNorm, update_running_norms
from aibig.layers.q.value_distributions import action_values

DISTRIBUTIONS: dict[str | None, dict[str, Any]] = {
    None: {},
    "categorical": {"atoms": 7, "value_min": -1.0, "value_max": 2.0},
    "quantiles": {"quantiles": 5},
    "implicit_quantiles": {"samples": 6, "target_samples": 3, "acting_samples": 4, "cosines": 8},
}
OUTPUTS_PER_ACTION = {None: None, "categorical": 7, "quantiles": 5, "implicit_quantiles": 4}


@pytest.mark.parametrize("name", ["dqn", "nature_cnn", "impala_cnn"])
@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_all_parts_compose(name: str, kind: str | None) -> None:
    for dueling, noise, layer_norm in itertools.product([False, True], repeat=3):
        sizes: dict[str, Any] = {"hidden": 16} if name != "dqn" else {"hidden": [16, 12]}
        switches: dict[str, Any] = {"dueling": dueling, "noisy": noise, "layer_norm": layer_norm}
        model = aibig.create_model(name, actions=3, distribution=kind, **sizes, **switches, **DISTRIBUTIONS[kind])
        observations = torch.randn(2, 4) if name == "dqn" else torch.randint(256, (2, 4, 84, 84), dtype=torch.uint8)
        output = model(observations)
        assert output.shape == ((2, 3) if kind is None else (2, 3, OUTPUTS_PER_ACTION[kind]))
        assert action_values(model, output).shape == (2, 3)
        if kind == "implicit_quantiles":
            assert model(observations, torch.rand(2, 6)).shape == (2, 3, 6)
        assert any(isinstance(layer, NoisyLinear) for layer in model.modules()) == noise
        assert any(isinstance(layer, torch.nn.LayerNorm) for layer in model.modules()) == layer_norm


def test_the_default_is_exactly_two_layers() -> None:
    model = aibig.create_model("dqn")
    assert {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()} == {
        **{"hidden_layers.0.weight": (16, 4), "hidden_layers.0.bias": (16,)},
        **{"head.weight": (4, 16), "head.bias": (4,)},
    }


def test_dueling_is_value_plus_centred_advantage() -> None:
    model = aibig.create_model("dqn", hidden=[8, 6], dueling=True).double()
    observations = torch.randn(5, 4, dtype=torch.float64)
    features = torch.relu(model.hidden_layers[0](observations))
    value, advantage = model.head.value(features), model.head.advantage(features)
    torch.testing.assert_close(model(observations), value + advantage - advantage.mean(1, keepdim=True))
    torch.testing.assert_close(model(observations).mean(1, keepdim=True), value)


def test_values_are_means_of_distributions() -> None:
    model = aibig.create_model("dqn", distribution="categorical", atoms=3, value_min=-1.0, value_max=1.0)
    certain = torch.tensor([[[0.0, -torch.inf, -torch.inf], [0.0, -torch.inf, 0.0], [-torch.inf, -torch.inf, 0.0]]])
    assert action_values(model, certain).tolist() == [[-1.0, 0.0, 1.0]]
    model = aibig.create_model("dqn", distribution="quantiles", quantiles=2)
    assert action_values(model, torch.tensor([[[1.0, 3.0]]])).tolist() == [[2.0]]
    assert model.distribution.fractions.tolist() == [0.25, 0.75]


def test_rows_are_presets() -> None:
    from aibig.config.registry import models, tasks

    model = aibig.create_model("rainbow", in_features=4, actions=2)
    assert model.registered["settings"]["dueling"] is model.registered["settings"]["noisy"] is True
    assert model(torch.randn(1, 4)).shape == (1, 2, 51)
    assert models.settings("rainbow")["hidden"].default == [128, 128] and models.settings("dqn")["hidden"].default == 16
    assert aibig.create_model("rainbow", noisy=False)(torch.randn(1, 4)).shape == (1, 4, 51)
    assert tasks.defaults("rainbow")["n_step"] == 3 and tasks.defaults("q_learning")["n_step"] == 1


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"noise_scale": 0.5}, "set noisy: true"),
        ({"atoms": 51}, "atoms: belongs to the distribution 'categorical', but none is set"),
        (
            {"distribution": "quantiles", "value_min": 0.0},
            "value_min: belongs to the distribution 'categorical', but this is 'quantiles'",
        ),
        ({"distribution": "categorical", "value_min": 1.0, "value_max": 1.0}, "value_min 1 must be below value_max 1"),
        ({"distribution": "categorical", "atoms": 1}, "takes 2 or more"),
        ({"hidden": [], "dueling": True}, "give at least one width"),
        ({"normalise": True, "scale": 2.0}, "normalised already"),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        aibig.create_model("dqn", **settings)


@pytest.mark.parametrize("name", ["dqn", "rainbow", "nature_cnn", "rainbow_cnn"])
def test_settings_of_the_head_are_checked_as_the_models_own(name: str) -> None:
    for settings, complaint in (
        ({"dueling": 3}, f"dueling of model '{name}' must be true or false, not 3"),
        ({"atoms": 0}, f"atoms of model '{name}' must be a whole number, at least 1 or null, not 0"),
        ({"duelling": True}, f"model '{name}' has no setting 'duelling'; did you mean 'dueling'"),
        ({"head": {}}, f"model '{name}' has no setting 'head'"),
    ):
        with pytest.raises(UserError, match=complaint):
            aibig.create_model(name, **settings)


def test_images_of_either_layout_are_the_same_to_a_q_cnn() -> None:
    first = aibig.create_model("nature_cnn", shape=[3, 40, 48], hidden=8)
    last = aibig.create_model("nature_cnn", shape=[40, 48, 3], hidden=8)
    stacked = aibig.create_model("nature_cnn", shape=[1, 40, 48, 3], hidden=8)
    last.load_state_dict(first.state_dict())
    stacked.load_state_dict(first.state_dict())
    images = torch.randint(256, (2, 3, 40, 48), dtype=torch.uint8)
    torch.testing.assert_close(first(images), last(images.permute(0, 2, 3, 1)))
    torch.testing.assert_close(first(images), stacked(images.permute(0, 2, 3, 1)[:, None]))
    torch.testing.assert_close(first(images), first(images.float() / 255))
    with pytest.raises(UserError, match="images of 20 x 20; 'nature' takes 36 pixels"):
        aibig.create_model("nature_cnn", shape=[4, 20, 20])


def test_noise_is_factorised_and_has_a_switch_of_its_own() -> None:
    torch.manual_seed(0)
    layer, inputs = NoisyLinear(5, 3, scale=0.4), torch.randn(7, 5)
    assert torch.all(layer.weight_sigma == 0.4 / 5**0.5) and torch.all(layer.bias_sigma == 0.4 / 5**0.5)
    mean = F.linear(inputs, layer.weight, layer.bias)
    reset_noise(layer, torch.Generator().manual_seed(1))
    assert torch.equal(layer(inputs), mean)
    set_noise_enabled(layer, True)
    weight = layer.weight + layer.weight_sigma * torch.outer(layer.noise_out, layer.noise_in)
    torch.testing.assert_close(layer(inputs), F.linear(inputs, weight, layer.bias + layer.bias_sigma * layer.noise_out))
    with noise_enabled(layer, False):
        assert torch.equal(layer(inputs), mean)
    assert layer.eval().noise_enabled and layer.state_dict().keys() == {"weight", "bias", "weight_sigma", "bias_sigma"}
    samples = []
    generator = torch.Generator().manual_seed(2)
    for _ in range(2_000):
        reset_noise(layer, generator)
        samples.append(layer.noise_in.clone())
    noise = torch.stack(samples)
    assert noise.mean().abs() < 0.03 and noise.var() == pytest.approx((2 / torch.pi) ** 0.5, abs=0.03)  # of sqrt|x|


def test_running_norms_have_the_mean_and_variance_of_all_that_was_observed() -> None:
    torch.manual_seed(0)
    norm, parts = RunningNorm((3,)), [3 + 2 * torch.randn(count, 3) for count in (0, 1, 7, 0, 40, 2)]
    for part in parts:
        update_running_norms(norm, part)
    observations = torch.cat(parts)
    torch.testing.assert_close(norm.mean, observations.mean(0))
    torch.testing.assert_close(norm.variance, observations.var(0, correction=0))
    expected = (observations - observations.mean(0)) / (observations.var(0, correction=0) + 1e-8).sqrt()
    torch.testing.assert_close(norm(observations.float()), expected.float())
    assert norm(torch.full((1, 3), 1e6)).tolist() == [[10.0] * 3]
