"""A task of a few lines trains through the unchanged trainer; updates that are not finite are skipped."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from contract_tasks import Crash, Line, Poisoned, crashing, differences

import aibig
from aibig.training.checkpoints import checkpoint
from aibig.training.devices.distributed import World
from aibig.training.logs.run_log import read_lines
from aibig.training.optimizers import builders as optimizer
from aibig.training.optimizers.gradient_step import GradientStep
from aibig.training.trainer import Trainer


def error_of(task: Line) -> float:
    """The loss on rows that are not in training."""
    inputs = torch.randn(100, 3, generator=torch.Generator().manual_seed(99))
    return (task.model(inputs) - inputs.sum(1, keepdim=True)).square().mean().item()


@pytest.mark.parametrize("has_folder", [False, True])
def test_a_task_of_a_few_lines_trains(has_folder: bool, tmp_path: Path) -> None:
    trainer = Trainer(optimizer.sgd(lr=0.05), max_steps=100, log_every=2)
    task = Line(trainer.context)
    initial_error = error_of(task)
    folder = tmp_path / "not" / "there yet" if has_folder else None
    result = trainer.fit(task, folder)
    assert error_of(task) < 0.01 * initial_error
    assert (result.progress.step, result.metrics, result.interrupted) == (100, {}, False)
    if folder is not None:
        losses = [line["loss"] for line in read_lines(folder) if line["kind"] == "train"]
        assert len(losses) == 50 and losses[-1] < 0.1 * losses[0]
        assert checkpoint.newest_valid(folder / "checkpoints", pytest.fail) is not None
    else:
        assert not list(tmp_path.iterdir())


def test_a_task_without_from_config_says_so() -> None:
    with pytest.raises(aibig.UserError, match="Line"):
        Line.from_config(aibig.Config({}), Trainer(max_steps=1).context)


def test_a_tasks_random_numbers_continue_after_a_crash(tmp_path: Path) -> None:
    def fit(name: str, crash_at: int | None = None, resume: bool = False) -> dict[str, object]:
        trainer = Trainer(max_steps=11, save_every=5, log_every=4)
        task = Line(trainer.context)
        trainer.fit(task if crash_at is None else crashing(task, crash_at), str(tmp_path / name), resume=resume)
        path = checkpoint.path_of(tmp_path / name / "checkpoints", 11)
        return {name: checkpoint.read(path, name) for name in ("shared", "rank-0")}

    whole = fit("whole")
    with pytest.raises(Crash):
        fit("parts", crash_at=7)
    assert not list(differences(whole, fit("parts", resume=True)))


@pytest.mark.parametrize("poison", ["loss", "gradient", "both"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_update_that_is_not_finite_is_skipped(poison: str, accumulate: int, tmp_path: Path) -> None:
    trainer = Trainer(max_steps=10, log_every=3, accumulate=accumulate)
    task = Poisoned(trainer.context, {accumulate * step: poison for step in (3, 4, 10)})
    result = trainer.fit(task, tmp_path)
    taken = [1, 2, 5, 6, 7, 8, 9]
    assert task.updated == taken
    weights = [*task.weights[::accumulate], [parameter.detach() for parameter in task.model.parameters()]]
    changed = [bool(list(differences(*pair))) for pair in pairwise(weights)]
    assert [step for step, has_changed in enumerate(changed, 1) if has_changed] == taken
    assert result.progress.skipped == 3
    logged = {line["step"]: line["skipped"] for line in read_lines(tmp_path) if line["kind"] == "train"}
    assert [logged[step] for step in (3, 6, 9)] == [1, 1, 0]


def test_many_updates_that_are_not_finite_end_the_run_and_keep_its_checkpoints(tmp_path: Path) -> None:
    trainer = Trainer(max_steps=300, save_every=20)
    task = Poisoned(trainer.context, dict.fromkeys(range(26, 301), "gradient"))
    with pytest.raises(aibig.UserError, match="step 125: 100 updates in a row") as complaint:
        trainer.fit(task, tmp_path)
    assert str(tmp_path / "checkpoints") in str(complaint.value)
    path = checkpoint.newest_valid(tmp_path / "checkpoints", pytest.fail)
    assert path is not None
    kept = list(checkpoint.read(path, "shared")["modules"]["model"].values())
    assert not list(differences(kept, task.weights[25])), "the last finite weights"

    trainer = Trainer(max_steps=140)
    finite = Poisoned(trainer.context, {})
    assert trainer.fit(finite, tmp_path, resume=True).progress.step == 140
    assert finite.updated == list(range(121, 141))


@pytest.mark.parametrize("fused", [True, False])
def test_on_an_accelerator_the_host_checks_for_an_optimizer_that_cannot_skip(fused: bool) -> None:
    """A stand-in for one: its kind decides who looks, the tensors may lie anywhere."""
    parameter = torch.nn.Parameter(torch.ones(3))
    sgd = torch.optim.SGD([parameter], lr=0.1, fused=fused)
    step = GradientStep(sgd, [parameter], World(), torch.device("mps"))
    assert step.host_checks is not fused
    for value, skipped in ((torch.inf, True), (1.0, False)):
        parameter.grad = torch.full((3,), value)
        taken, logged = step.step(torch.zeros(()), None)
        assert taken is (fused or not skipped), "the host knows of those that it looked at"
        assert float(logged["skipped"]) == float(skipped)
        assert bool((parameter == 1.0).all()) is skipped


def test_a_finite_update_between_begins_the_count_again(tmp_path: Path) -> None:
    trainer = Trainer(max_steps=200)
    task = Poisoned(trainer.context, {step: "loss" for step in range(1, 201) if step % 100})
    assert trainer.fit(task).progress.skipped == 198
