"""Two ranks compute what one does: weights, target networks, averages, skipped updates, resumed runs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import contract_ranks
import pytest
import torch
from contract_ranks import MUON, PARALLEL, SCENARIOS, STEPS, UPDATE_SETTINGS, UPDATES
from contract_tasks import Masked, differences
from test_contract_state import assert_modules_as_by_hand
from test_contract_weights import assert_same_weights, big_batch

import aibig
from aibig.training.checkpoints import checkpoint
from aibig.training.logs.run_log import read_lines

SECONDS = (
    300  # all scenarios need about 20 on an idle machine; a rank that waits in vain for another would wait half an hour
)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where two ranks left the results of every scenario."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = [str(Path(aibig.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    shared |= {"PYTHONPATH": os.pathsep.join(paths), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, contract_ranks.__file__, str(folder)]
    processes = []
    for rank in ("0", "1"):
        with (folder / f"stderr-{rank}").open("w") as stderr:
            environment = os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank}
            processes.append(subprocess.Popen(command, env=environment, stderr=stderr))
    try:
        for process in processes:
            process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        pass  # the tests of what is missing say which
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return folder


def outcomes(ranks: Path, scenario: str) -> list[dict[str, Any]]:
    """The results of a scenario, by rank."""
    results = []
    for rank in range(2):
        path = ranks / f"{scenario}-{rank}.pt"
        stderr = (ranks / f"stderr-{rank}").read_text()
        assert path.is_file(), f"rank {rank} did not come to the end:\n{stderr[-2000:]}"
        results.append(torch.load(path))
        assert "error" not in results[-1], results[-1]["error"]
    return results


def last_checkpoint(folder: Path) -> dict[str, Any]:
    """All files of a run's last checkpoint."""
    path = checkpoint.newest_valid(folder / "checkpoints", pytest.fail)
    assert path is not None
    return {name: checkpoint.read(path, name) for name in ("shared", "rank-0", "rank-1")}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_ranks_end_with_the_same_results(scenario: str, ranks: Path) -> None:
    assert not list(differences(*outcomes(ranks, scenario)))


@pytest.mark.parametrize("parallel", PARALLEL)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_ranks_and_micro_batches_make_the_big_batch(accumulate: int, parallel: str, ranks: Path) -> None:
    name = f"masked {accumulate} {parallel}"
    for outcome in outcomes(ranks, name):
        assert_same_weights(outcome["weights"], big_batch())
        assert outcome["counts"] == {"samples": UPDATES * Masked.ROWS}
    first = next(line["loss"] for line in read_lines(ranks / name) if line["kind"] == "train")
    assert first == pytest.approx(Masked.mean_error(Masked.make_model(), Masked.rows(0)).item(), rel=1e-6)


@pytest.mark.parametrize("parallel", PARALLEL)
def test_clipping_uses_the_gradient_of_all_ranks(parallel: str, ranks: Path) -> None:
    for outcome in outcomes(ranks, f"clipped 2 {parallel}"):
        assert_same_weights(outcome["weights"], big_batch(clip_norm=0.3))


@pytest.mark.parametrize("parallel", PARALLEL)
@pytest.mark.parametrize(
    ("name", "settings"), [("classification", {}), ("muon", {"make_optimizer": MUON, "hidden": 9})]
)
def test_classification_on_two_ranks_is_that_on_one(
    name: str, settings: dict[str, Any], parallel: str, ranks: Path
) -> None:
    alone = contract_ranks.classify(None, **settings)
    assert alone["steps"] == 8 and alone["metrics"]["accuracy"] > 0.5
    for outcome in outcomes(ranks, f"{name} {parallel}"):
        torch.testing.assert_close(outcome["weights"], alone["weights"], rtol=1e-5, atol=1e-5)
        assert (outcome["steps"], outcome["counts"]) == (alone["steps"], alone["counts"])
        assert outcome["best_step"] == alone["best_step"]
        assert outcome["metrics"] == pytest.approx(alone["metrics"], abs=1e-5)


@pytest.mark.parametrize("parallel", PARALLEL)
@pytest.mark.parametrize("kind", UPDATE_SETTINGS)
def test_target_network_and_average_trail_the_model(kind: str, parallel: str, ranks: Path) -> None:
    name = f"target network {kind} {parallel}"
    modules = last_checkpoint(ranks / name)["shared"]["modules"]
    assert_modules_as_by_hand(modules, UPDATE_SETTINGS[kind])
    for outcome in outcomes(ranks, name):
        assert not list(differences(outcome["weights"], dict(modules["ema"]))), "the exported model is the average"


@pytest.mark.parametrize("parallel", PARALLEL)
@pytest.mark.parametrize(
    ("whole", "crashed"),
    [*((f"whole {kind}", f"crashed {kind}") for kind in UPDATE_SETTINGS), ("muon whole", "muon crashed")],
)
def test_a_crash_changes_nothing(whole: str, crashed: str, parallel: str, ranks: Path) -> None:
    names = f"{whole} {parallel}", f"{crashed} {parallel}"
    checkpoints = [last_checkpoint(ranks / name) for name in names]
    assert checkpoints[0]["shared"]["progress"]["step"] == STEPS
    assert not list(differences(*checkpoints))
    assert not list(differences(*(outcomes(ranks, name) for name in names)))


@pytest.mark.parametrize("parallel", PARALLEL)
@pytest.mark.parametrize("poison", ["loss", "gradient", "both"])
def test_what_is_not_finite_on_one_rank_is_skipped_on_both(poison: str, parallel: str, ranks: Path) -> None:
    name = f"poisoned {poison} {parallel}"
    for outcome in outcomes(ranks, name):
        taken = [1, 2, 5, 6, 7]
        changed = [bool(list(differences(*pair))) for pair in pairwise(outcome["weights"])]
        assert [step for step, has_changed in enumerate(changed, 1) if has_changed] == taken
        assert (outcome["updated"], outcome["skipped"]) == (taken, 2)
    logged = {line["step"]: line["skipped"] for line in read_lines(ranks / name) if line["kind"] == "train"}
    assert [logged[step] for step in (2, 4, 6)] == [0, 2, 0]


def test_ranks_give_up_together(ranks: Path) -> None:
    for outcome in outcomes(ranks, "hopeless"):
        assert "step 107: 100 updates in a row" in outcome["complaint"]
    assert last_checkpoint(ranks / "hopeless")["shared"]["progress"]["step"] == 105


@pytest.mark.parametrize("parallel", PARALLEL)
@pytest.mark.parametrize(("best", "step"), [(2, 6), (3, 8)])
def test_ranks_agree_on_what_is_best(best: int, step: int, parallel: str, ranks: Path) -> None:
    name = f"disagreeing {best} {parallel}"
    path = checkpoint.path_of(ranks / name / "checkpoints", step)
    model = checkpoint.read(path, "shared")["modules"]["model"]
    for outcome in outcomes(ranks, name):
        assert (outcome["best_step"], outcome["metrics"]) == (step, {"loss": 4.0 - best})
        assert not list(differences(outcome["weights"], dict(model)))


@pytest.mark.parametrize("parallel", PARALLEL)
def test_best_weights_that_found_the_disk_full_survive_a_crash(parallel: str, ranks: Path) -> None:
    for whole, crashed in zip(
        outcomes(ranks, f"unsaved whole {parallel}"), outcomes(ranks, f"unsaved crashed {parallel}"), strict=True
    ):
        assert not list(differences(whole, crashed))
