"""A model with packed members learns, is evaluated and predicts through the tasks that plain nets use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract_tasks import Packed
from torch import Tensor, nn

import aibig
from aibig.config import registry
from aibig.data.arrays import ArrayData, Arrays
from aibig.inference.predictor import load_predictor
from aibig.metrics.classification import classification_metrics
from aibig.metrics.regression import regression_metrics
from aibig.tasks.base import Batch, Context
from aibig.tasks.supervised import Classification, Regression, Supervised
from aibig.training.optimizers import builders as optimizer
from aibig.training.trainer import Trainer

MEMBERS = 4
OUTPUTS = {Classification: 3, Regression: 2}


def make_task(kind: type[Supervised], context: Context, validation_fraction: float = 0.15) -> Supervised:
    """Three classes, or two values, of 600 points with a little noise; members that differ much."""
    random = np.random.default_rng(0)
    features = random.normal(size=(600, 5))
    scores = features @ random.normal(size=(5, OUTPUTS[kind]))
    scores += 0.1 * random.normal(size=scores.shape)
    if kind is Classification:
        arrays = Arrays(features, scores.argmax(1), class_names=["a", "b", "c"])
    else:
        arrays = Arrays(features, 7.0 + 5.0 * scores)
    torch.manual_seed(0)
    model = Packed(members=MEMBERS, in_features=5, out_features=OUTPUTS[kind])
    with torch.no_grad():
        model.weight.mul_(torch.tensor([0.2, 1.0, 2.0, 4.0]).view(MEMBERS, 1, 1))
    return kind(model, ArrayData(arrays, batch_size=32, validation_fraction=validation_fraction), context)


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_ensemble_learns_what_each_member_learns_alone(kind: type[Supervised], accumulate: int) -> None:
    """SGD moves a member by its part of the mean: as one alone, with a rate that much smaller."""
    settings: dict[str, Any] = {"seed": 1, "max_epochs": 10, "accumulate": accumulate}
    trainer = Trainer(optimizer.sgd(lr=0.4), **settings)
    task = make_task(kind, trainer.context, validation_fraction=0.0)
    assert isinstance(task.model, Packed)
    alone = [task.model.alone(member) for member in range(MEMBERS)]
    before, after = task.evaluate("test"), trainer.fit(task).metrics
    worst = {"accuracy": 0.9, "r2": 0.95}
    assert all(before[name] < worst[name] < after[name] for name in worst if name in before)

    for member, net in enumerate(alone):
        trainer = Trainer(optimizer.sgd(lr=0.4 / MEMBERS), **settings)
        task_alone = make_task(kind, trainer.context, validation_fraction=0.0)
        task_alone.model = net
        trainer.fit(task_alone)
        packed = dict(task.model.alone(member).state_dict())
        torch.testing.assert_close(packed, dict(net.state_dict()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", OUTPUTS)
def test_each_member_gets_its_own_gradient(kind: type[Supervised]) -> None:
    task = make_task(kind, Context())
    assert isinstance(task.model, Packed)
    batch = task.next_batch()
    task.loss(batch).value.backward()
    assert task.model.weight.grad is not None
    values = []
    for member in range(MEMBERS):
        net = task.model.alone(member)
        value = loss_of(task, net, batch)
        value.backward()
        values.append(value)
        assert net.weight.grad is not None
        torch.testing.assert_close(task.model.weight.grad[member].T, net.weight.grad / MEMBERS)
    assert max(values) > 1.5 * min(values), "members that are alike would prove nothing"
    torch.testing.assert_close(task.loss(batch).value, torch.stack(values).mean())


def loss_of(task: Supervised, net: nn.Module, batch: Batch) -> Tensor:
    """The loss of another model in the same task."""
    previous, task.model = task.model, net
    try:
        return task.loss(batch).value
    finally:
        task.model = previous


def make_disagree(model: nn.Module) -> None:
    """Make members so confident, and so different, that a mean of scores is not a mean of probabilities."""
    with torch.no_grad():
        model.weight.mul_(torch.tensor([20.0, 0.2, -1.0, 3.0]).view(MEMBERS, 1, 1))


def test_classes_are_evaluated_by_the_mean_probability() -> None:
    task = make_task(Classification, Context())
    make_disagree(task.model)
    features, targets = task.data.splits["validation"]
    scores = task.model(features).detach()
    mean_probability, mean_score = scores.softmax(2).mean(0), scores.mean(0).softmax(1)
    expected, mistaken = (
        classification_metrics(values.numpy(), targets.numpy()) for values in (mean_probability, mean_score)
    )
    assert abs(expected["log_loss"] - mistaken["log_loss"]) > 0.1
    assert expected["accuracy"] != mistaken["accuracy"]
    assert task.evaluate("validation") == pytest.approx(expected, rel=1e-5)


def test_values_are_evaluated_by_the_mean_in_their_own_units() -> None:
    task = make_task(Regression, Context())
    make_disagree(task.model)
    features, targets = task.data.splits["validation"]
    train = task.data.splits["train"][1]
    values = task.model(features).detach().mean(0) * train.std(0, correction=0) + train.mean(0)
    expected = regression_metrics(values.numpy(), targets.numpy())
    assert task.evaluate("validation") == pytest.approx(expected, rel=1e-4)


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name that the model has in configs, for the length of a test."""
    monkeypatch.setattr(registry.models, "_registered", [*registry.models._registered])
    monkeypatch.setattr(registry.models, "_entries", None)
    aibig.register_model("contract_packed", family="nets")(Packed)
    yield "contract_packed"


@pytest.mark.parametrize("data", ["digits", "diabetes"])
def test_the_exported_model_is_the_evaluated_one(data: str, packed: str, tmp_path: Path) -> None:
    kind = {"digits": "classification", "diabetes": "regression"}[data]
    config = {"model": {"name": packed}, "task": {"name": kind}, "data": {"name": data}}
    run = aibig.train({**config, "trainer": {"max_epochs": 2, "ema_decay": 0.9}}, out=tmp_path / "run")
    assert run.result is not None
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{data}")()
    data_source = aibig.load_config(tmp_path / "run" / "config.yaml").create("data")
    features, targets = data_source.splits["test"]
    rows = (features * data_source.scale + data_source.shift).numpy()
    assert rows.shape[1] == bunch.data.shape[1]
    predicted = load_predictor(tmp_path / "run").predict(rows)
    measure = classification_metrics if kind == "classification" else regression_metrics
    assert measure(predicted, targets.numpy()) == pytest.approx(run.result["metrics"], rel=1e-4)

    model = aibig.load_model(tmp_path / "run")
    outputs = model(features).detach()
    assert outputs.shape == (MEMBERS, len(features), outputs.shape[2])
    if kind == "classification":
        np.testing.assert_allclose(predicted, outputs.softmax(2).mean(0).numpy(), rtol=1e-4, atol=1e-6)
