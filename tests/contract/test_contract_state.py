"""Carries and target networks: passed on in order, saved, and after a crash as if there had been none."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from contract_tasks import Crash, Prioritised, Recurrent, WithTargetNetwork, crashing, differences
from torch import nn

from aibig.tasks.base import Batch, Context, Loss, Task
from aibig.training.checkpoints import checkpoint
from aibig.training.optimizers import builders as optimizer
from aibig.training.optimizers import schedules as schedule
from aibig.training.trainer import Trainer

STEPS = 11

UPDATE_SETTINGS = {"target_update_interval": 1, "tau": 0.2}, {"target_update_interval": 3, "tau": 1.0}
TASKS: dict[str, Callable[[Context], Task]] = {
    "soft updates": lambda context: WithTargetNetwork(context, **UPDATE_SETTINGS[0], noise=0.1),
    "hard updates": lambda context: WithTargetNetwork(context, **UPDATE_SETTINGS[1], noise=0.1),
    "priorities": Prioritised,
    "state": Recurrent,
}


def train_by_hand(*, target_update_interval: int, tau: float, ema_decay: float) -> dict[str, nn.Module]:
    """Model, target network and average after a run of WithTargetNetwork, in plain torch."""
    task = WithTargetNetwork(Context(), target_update_interval=target_update_interval, tau=tau)
    model, target_network, ema = task.model, task.target_network, copy.deepcopy(task.model)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(1, STEPS + 1):
        sgd.zero_grad()
        WithTargetNetwork.error(model, target_network, *WithTargetNetwork.rows(step - 1)).backward()
        sgd.step()
        decay = min(ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            parameters = (module.parameters() for module in (model, target_network, ema))
            for online, target, average in zip(*parameters, strict=True):
                average.copy_(decay * average + (1 - decay) * online)
                if step % target_update_interval == 0:
                    target.copy_((1 - tau) * target + tau * online)
    return {"model": model, "target_network": target_network, "ema": ema}


def assert_modules_as_by_hand(modules: dict[str, Any], settings: dict[str, Any]) -> None:
    """Modules of a checkpoint equal those trained by hand, up to the rounding of float64."""
    expected = train_by_hand(**settings, ema_decay=0.3)
    assert modules.keys() == expected.keys()
    for name, module in expected.items():
        assert modules[name].keys() == module.state_dict().keys()
        torch.testing.assert_close(dict(modules[name]), dict(module.state_dict()), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("settings", UPDATE_SETTINGS, ids=["soft", "hard"])
def test_target_network_and_average_trail_the_model(settings: dict[str, Any], tmp_path: Path) -> None:
    trainer = Trainer(optimizer.sgd(lr=0.1), max_steps=STEPS, ema_decay=0.3)
    task = WithTargetNetwork(trainer.context, **settings)
    trainer.fit(task, tmp_path)
    modules = checkpoint.read(checkpoint.path_of(tmp_path / "checkpoints", STEPS), "shared")["modules"]
    assert_modules_as_by_hand(modules, settings)
    assert not list(differences(dict(task.model.state_dict()), dict(modules["ema"]))), (
        "the exported model is the average"
    )


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_crash_changes_nothing(name: str, accumulate: int, tmp_path: Path) -> None:
    def fit(folder: Path, crash_at: int | None = None, resume: bool = False) -> dict[str, Any]:
        settings: dict[str, Any] = {"max_steps": STEPS, "save_every": 5, "log_every": 4, "ema_decay": 0.9}
        cosine = schedule.cosine(warmup_steps=7)
        trainer = Trainer(optimizer.adamw(lr=0.01), cosine, accumulate=accumulate, **settings)
        task = TASKS[name](trainer.context)
        trainer.fit(task if crash_at is None else crashing(task, crash_at), folder, resume=resume)
        path = checkpoint.path_of(folder / "checkpoints", STEPS)
        return {name: checkpoint.read(path, name) for name in ("shared", "rank-0")}

    whole = fit(tmp_path / "whole")
    with pytest.raises(Crash):
        fit(tmp_path / "parts", crash_at=7)
    assert checkpoint.steps(tmp_path / "parts" / "checkpoints")[-1] == 5, "steps 6 and 7 are lost"
    assert not list(differences(whole, fit(tmp_path / "parts", resume=True)))


@pytest.mark.parametrize("accumulate", [1, 3])
def test_new_priorities_decide_the_next_sample(accumulate: int) -> None:
    trainer = Trainer(optimizer.sgd(lr=0.1), max_steps=STEPS, accumulate=accumulate)
    task = Prioritised(trainer.context)
    model, priorities = copy.deepcopy(task.model), torch.ones(32)
    generator = trainer.context.generator.clone_state()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    sampled = []
    for _ in range(STEPS):
        sgd.zero_grad()
        for _ in range(accumulate):
            index = priorities.multinomial(4, generator=generator)
            errors = (model(task.inputs[index]) - task.targets[index]).square().squeeze(1)
            (errors.mean() / accumulate).backward()
            priorities[index] = errors.detach() + 1e-3
            sampled.append(index.tolist())
        sgd.step()
    trainer.fit(task)
    assert task.sampled == sampled
    torch.testing.assert_close(task.priorities, priorities)
    torch.testing.assert_close(dict(task.model.state_dict()), dict(model.state_dict()))


@pytest.mark.parametrize("accumulate", [1, 3])
def test_state_carries_over_from_micro_batch_to_micro_batch(accumulate: int) -> None:
    trainer = Trainer(optimizer.sgd(lr=0.1), max_steps=STEPS, accumulate=accumulate)
    task = Recurrent(trainer.context)
    model = copy.deepcopy(task.model)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    state, windows = None, iter(task.stream.split(3, 1))
    for _ in range(STEPS):
        sgd.zero_grad()
        for _ in range(accumulate):
            inputs = next(windows)
            outputs, state = model(inputs, state)
            state = state.detach()
            (Recurrent.error(outputs, inputs) / accumulate).backward()
        sgd.step()
    trainer.fit(task)
    torch.testing.assert_close(dict(task.model.state_dict()), dict(model.state_dict()))
    assert task.model_state is not None and state is not None
    torch.testing.assert_close(task.model_state, state)


def test_the_order_of_calls() -> None:
    calls: list[str] = []

    class Recording(Prioritised):
        def next_batch(self) -> Batch:
            calls.append("next_batch")
            return super().next_batch()

        def loss(self, batch: Batch) -> Loss:
            calls.append("loss")
            return super().loss(batch)

        def after_loss(self, carry: Any) -> None:
            calls.append("after_loss" if self.has_gradient() else "after_loss before backward")

        def after_update(self, step: int) -> None:
            calls.append("after_update before the step" if self.has_gradient() else f"after_update {step}")

        def has_gradient(self) -> bool:
            return any(parameter.grad is not None for parameter in self.model.parameters())

    trainer = Trainer(max_steps=2, accumulate=2)
    trainer.fit(Recording(trainer.context))
    micro = ["next_batch", "loss", "after_loss"]
    assert calls == [*micro, *micro, "after_update 1", *micro, *micro, "after_update 2"]
