"""What one rank of several does for test_contract_two_ranks.py: python contract_ranks.py FOLDER.

All in one session, since starting a rank takes longer than everything that it does. The result of a scenario
is written to FOLDER/SCENARIO-RANK.pt, what its run writes to FOLDER/SCENARIO.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from contract_tasks import Crash, Disagreeing, Masked, Poisoned, WithTargetNetwork, crashing
from torch import nn

from aibig.data.arrays import ArrayData
from aibig.data.bundled import digits
from aibig.errors import UserError
from aibig.layers.utils.dtensor import full_tensor
from aibig.models.net import Net
from aibig.tasks.supervised import Classification
from aibig.training.checkpoints import checkpoint
from aibig.training.devices.distributed import World
from aibig.training.optimizers import builders as optimizer
from aibig.training.trainer import Trainer

UPDATES = 5  # of Masked and Classification
STEPS = 11  # of WithTargetNetwork
PARALLEL = "replicate", "fully_shard"
SGD, MUON = optimizer.sgd(lr=0.1), optimizer.muon(lr=0.05)
UPDATE_SETTINGS = {
    "soft": {"target_update_interval": 1, "tau": 0.2},
    "hard": {"target_update_interval": 3, "tau": 1.0},
}


def whole_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The full weights of a model, on every rank."""
    return {name: full_tensor(value.detach()).clone() for name, value in model.state_dict().items()}


def masked(folder: Path, accumulate: int, **settings: Any) -> dict[str, Any]:
    """Parts of different weight on each rank and in each micro-batch."""
    settings |= {"max_samples": UPDATES * Masked.ROWS, "log_every": 1}
    trainer = Trainer(optimizer.sgd(lr=0.1), accumulate=accumulate, **settings)
    task = Masked(trainer.context)
    counts = trainer.fit(task, folder).progress.counts
    return {"weights": whole_weights(task.model), "counts": counts}


def with_target_network(
    folder: Path,
    kind: str,
    *,
    noise: float = 0.0,
    crash_at: int | None = None,
    make_optimizer: optimizer.OptimizerMaker = SGD,
    **settings: Any,
) -> dict[str, Any]:
    """A target network and an average, uninterrupted or crashed and resumed."""

    def fit(crash_at: int | None, resume: bool) -> WithTargetNetwork:
        run = {"max_steps": STEPS, "save_every": 5, "log_every": 4, "ema_decay": 0.3}
        trainer = Trainer(make_optimizer, **run, **settings)
        task = WithTargetNetwork(trainer.context, **UPDATE_SETTINGS[kind], noise=noise)
        trainer.fit(task if crash_at is None else crashing(task, crash_at), folder, resume=resume)
        return task

    if crash_at is not None:
        with suppress(Crash):
            fit(crash_at, resume=False)
    task = fit(None, resume=crash_at is not None)
    return {"weights": whole_weights(task.model)}


def classification(folder: Path, **settings: Any) -> dict[str, Any]:
    """The real task on real data."""
    return classify(folder, **settings)


def classify(
    folder: Path | None, make_optimizer: optimizer.OptimizerMaker = SGD, hidden: int = 8, **settings: Any
) -> dict[str, Any]:
    """Weights and test metrics of a few updates on digits; the last batch of an epoch has an odd size."""
    trainer = Trainer(make_optimizer, seed=5, max_epochs=1, eval_every=4, **settings)
    data = ArrayData(digits, batch_size=165, validation_fraction=0.1, test_fraction=0.2)
    assert len(data.splits["train"][0]) % 165 % 2 == 1
    task = Classification(Net(in_features=64, hidden=hidden, out_features=10), data, trainer.context)
    result = trainer.fit(task, folder)
    return {
        "weights": whole_weights(task.model),
        "metrics": result.metrics,
        "steps": result.progress.step,
        "counts": result.progress.counts,
        "best_step": result.progress.best_step,
    }


def poisoned(folder: Path, poison: str, **settings: Any) -> dict[str, Any]:
    """Two updates that are not finite, one on each rank alone."""
    trainer = Trainer(max_steps=7, log_every=2, **settings)
    task = Poisoned(trainer.context, {3 + trainer.world.rank: poison})
    result = trainer.fit(task, folder)
    models = [*task.weights, [parameter.detach().clone() for parameter in task.model.parameters()]]
    weights = [[full_tensor(parameter) for parameter in model] for model in models]
    return {"weights": weights, "updated": task.updated, "skipped": result.progress.skipped}


def hopeless(folder: Path) -> dict[str, Any]:
    """Nothing is finite from update 8 on, on one rank."""
    trainer = Trainer(max_steps=300, save_every=5)
    poison = dict.fromkeys(range(8, 300), "both") if trainer.world.rank == 1 else {}
    try:
        trainer.fit(Poisoned(trainer.context, poison), folder)
    except UserError as error:
        return {"complaint": str(error)}
    return {"complaint": ""}


def disagreeing(folder: Path, best: int, **settings: Any) -> dict[str, Any]:
    """Each rank finds other weights the best, of steps 3, 6 and 8."""
    trainer = Trainer(max_steps=8, eval_every=3, **settings)
    task = Disagreeing(trainer.context, best)
    result = trainer.fit(task, folder)
    weights, best_step = whole_weights(task.model), result.progress.best_step
    return {"weights": weights, "metrics": result.metrics, "best_step": best_step}


def unsaved_best(folder: Path, crash_at: int | None = None, **settings: Any) -> dict[str, Any]:
    """The disk is full at the best step, 6; uninterrupted, or crashed after the next checkpoint and resumed."""
    write = checkpoint.try_to_write

    def fit(crash_at: int | None, resume: bool) -> Disagreeing:
        trainer = Trainer(max_steps=12, eval_every=3, save_every=4, ema_decay=0.5, **settings)
        task = Disagreeing(trainer.context, best=2)
        task.model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))  # both ranks have a part of it
        task.evaluations = 2 if resume else 0  # it counts them itself
        trainer.fit(task if crash_at is None else crashing(task, crash_at), folder, resume=resume)
        return task

    def full_at_6(place: Path, step: int, state: dict[str, Any], world: World) -> OSError | None:
        return OSError("full") if step == 6 else write(place, step, state, world)

    checkpoint.try_to_write = full_at_6
    try:
        if crash_at is not None:
            with suppress(Crash):
                fit(crash_at, resume=False)
        return {"weights": whole_weights(fit(None, resume=crash_at is not None).model)}
    finally:
        checkpoint.try_to_write = write


SCENARIOS: dict[str, Callable[[Path], dict[str, Any]]] = {"hopeless": hopeless}
for _parallel in PARALLEL:
    _settings: dict[str, Any] = {"parallel": _parallel}
    SCENARIOS |= {
        f"masked 1 {_parallel}": partial(masked, accumulate=1, **_settings),
        f"masked 2 {_parallel}": partial(masked, accumulate=2, **_settings),
        f"clipped 2 {_parallel}": partial(masked, accumulate=2, clip_norm=0.3, **_settings),
        f"poisoned loss {_parallel}": partial(poisoned, poison="loss", **_settings),
        f"poisoned gradient {_parallel}": partial(poisoned, poison="gradient", **_settings),
        f"poisoned both {_parallel}": partial(poisoned, poison="both", **_settings),
        f"classification {_parallel}": partial(classification, **_settings),
        f"muon {_parallel}": partial(classification, make_optimizer=MUON, hidden=9, **_settings),
        f"muon whole {_parallel}": partial(
            with_target_network, kind="soft", noise=0.1, make_optimizer=MUON, **_settings
        ),
        f"muon crashed {_parallel}": partial(
            with_target_network, kind="soft", noise=0.1, make_optimizer=MUON, crash_at=7, **_settings
        ),
        f"disagreeing 2 {_parallel}": partial(disagreeing, best=2, **_settings),
        f"disagreeing 3 {_parallel}": partial(disagreeing, best=3, **_settings),
        f"unsaved whole {_parallel}": partial(unsaved_best, **_settings),
        f"unsaved crashed {_parallel}": partial(unsaved_best, crash_at=9, **_settings),
    }
    for _kind in UPDATE_SETTINGS:
        SCENARIOS |= {
            f"target network {_kind} {_parallel}": partial(with_target_network, kind=_kind, **_settings),
            f"whole {_kind} {_parallel}": partial(with_target_network, kind=_kind, noise=0.1, **_settings),
            f"crashed {_kind} {_parallel}": partial(
                with_target_network, kind=_kind, noise=0.1, crash_at=7, **_settings
            ),
        }


def main(folder: Path) -> None:
    """Every scenario; the first that fails ends the session, since the ranks are no longer together."""
    rank = Trainer(max_steps=1).world.rank
    for name, scenario in SCENARIOS.items():
        try:
            outcome = scenario(folder / name)
        except BaseException:
            torch.save({"error": traceback.format_exc()}, folder / f"{name}-{rank}.pt")
            raise
        torch.save(outcome, folder / f"{name}-{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    torch.distributed.destroy_process_group()
