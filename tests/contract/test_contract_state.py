"""Carries and target_networks: handed over in order, saved, and after a crash as if there had been none."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from contract_tasks import Crash, Following, Prioritised, Remembering, crashing, differences
from torch import nn

from aibig.tasks.base import Batch, Context, Loss, Task
from aibig.training.checkpoints import checkpoint
from aibig.training.optimizers import builders as optimizer
from aibig.training.optimizers import schedules as schedule
from aibig.training.trainer import Trainer

STEPS = 11

FOLLOWING = {"every": 1, "fraction": 0.2}, {"every": 3, "fraction": 1.0}
TASKS: dict[str, Callable[[Context], Task]] = {
    "soft target_network": lambda context: Following(context, **FOLLOWING[0], noise=0.1),
    "hard target_network": lambda context: Following(context, **FOLLOWING[1], noise=0.1),
    "priorities": Prioritised,
    "memory": Remembering,
}


def follow_by_hand(*, every: int, fraction: float, ema_decay: float) -> dict[str, nn.Module]:
    """Model, target_network and average after a run of Following, in plain torch."""
    task = Following(Context(), every=every, fraction=fraction)
    model, target_network, average = task.model, task.target_network, copy.deepcopy(task.model)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(1, STEPS + 1):
        sgd.zero_grad()
        Following.error(model, target_network, *Following.rows(step - 1)).backward()
        sgd.step()
        decay = min(ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            parameters = (one.parameters() for one in (model, target_network, average))
            for own, trailing, mean in zip(*parameters, strict=True):
                mean.copy_(decay * mean + (1 - decay) * own)
                if step % every == 0:
                    trailing.copy_((1 - fraction) * trailing + fraction * own)
    return {"model": model, "target_network": target_network, "average": average}


def assert_followed(modules: dict[str, Any], settings: dict[str, Any]) -> None:
    """Modules of a checkpoint equal those made by hand, up to the rounding of float64."""
    expected = follow_by_hand(**settings, ema_decay=0.3)
    assert modules.keys() == expected.keys()
    for name, module in expected.items():
        assert modules[name].keys() == module.state_dict().keys()
        torch.testing.assert_close(dict(modules[name]), dict(module.state_dict()), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("settings", FOLLOWING, ids=["soft", "hard"])
def test_follower_and_average_trail_the_model(settings: dict[str, Any], tmp_path: Path) -> None:
    trainer = Trainer(optimizer.sgd(lr=0.1), max_steps=STEPS, ema_decay=0.3)
    task = Following(trainer.context, **settings)
    trainer.fit(task, tmp_path)
    modules = checkpoint.read(checkpoint.path_of(tmp_path / "checkpoints", STEPS), "shared")["modules"]
    assert_followed(modules, settings)
    assert not list(differences(dict(task.model.state_dict()), dict(modules["average"]))), "what is left"


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
        return {one: checkpoint.read(path, one) for one in ("shared", "rank-0")}

    whole = fit(tmp_path / "whole")
    with pytest.raises(Crash):
        fit(tmp_path / "parts", crash_at=7)
    assert checkpoint.steps(tmp_path / "parts" / "checkpoints")[-1] == 5, "steps 6 and 7 are lost"
    assert not list(differences(whole, fit(tmp_path / "parts", resume=True)))


@pytest.mark.parametrize("accumulate", [1, 3])
def test_new_priorities_decide_the_next_draw(accumulate: int) -> None:
    trainer = Trainer(optimizer.sgd(lr=0.1), max_steps=STEPS, accumulate=accumulate)
    task = Prioritised(trainer.context)
    model, priorities = copy.deepcopy(task.model), torch.ones(32)
    generator = trainer.context.generator.clone_state()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    drawn = []
    for _ in range(STEPS):
        sgd.zero_grad()
        for _ in range(accumulate):
            index = priorities.multinomial(4, generator=generator)
            errors = (model(task.inputs[index]) - task.targets[index]).square().squeeze(1)
            (errors.mean() / accumulate).backward()
            priorities[index] = errors.detach() + 1e-3
            drawn.append(index.tolist())
        sgd.step()
    trainer.fit(task)
    assert task.drawn == drawn
    torch.testing.assert_close(task.priorities, priorities)
    torch.testing.assert_close(dict(task.model.state_dict()), dict(model.state_dict()))


@pytest.mark.parametrize("accumulate", [1, 3])
def test_memory_goes_from_micro_batch_to_micro_batch(accumulate: int) -> None:
    trainer = Trainer(optimizer.sgd(lr=0.1), max_steps=STEPS, accumulate=accumulate)
    task = Remembering(trainer.context)
    model = copy.deepcopy(task.model)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    memory, windows = None, iter(task.stream.split(3, 1))
    for _ in range(STEPS):
        sgd.zero_grad()
        for _ in range(accumulate):
            inputs = next(windows)
            outputs, memory = model(inputs, memory)
            memory = memory.detach()
            (Remembering.error(outputs, inputs) / accumulate).backward()
        sgd.step()
    trainer.fit(task)
    torch.testing.assert_close(dict(task.model.state_dict()), dict(model.state_dict()))
    assert task.memory is not None and memory is not None
    torch.testing.assert_close(task.memory, memory)


def test_the_order_of_calls() -> None:
    calls: list[str] = []

    class Listening(Prioritised):
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
            return any(one.grad is not None for one in self.model.parameters())

    trainer = Trainer(max_steps=2, accumulate=2)
    trainer.fit(Listening(trainer.context))
    micro = ["next_batch", "loss", "after_loss"]
    assert calls == [*micro, *micro, "after_update 1", *micro, *micro, "after_update 2"]
