"""The trainer: early stopping, callbacks, TensorBoard, and that an error loses nothing."""

from __future__ import annotations

import json
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import pytest
from families import DQN, FAMILIES, NETS
from test_resume import assert_same_run, lines, train_in_two_parts

import aibig
from aibig.tasks.supervised import Classification
from aibig.training.checkpoints import checkpoint
from aibig.training.limits import Limits, Progress

PATIENT = {
    **NETS,
    "trainer": {**NETS["trainer"], "max_steps": 10_000, "eval_every": 5, "patience": 3, "min_delta": 0.5},
}


class Boom(Exception):
    """What a user's own code raises."""


def test_patience_ends_a_run_and_is_resumed_exactly(tmp_path: Path) -> None:
    whole = aibig.train(PATIENT, out=tmp_path / "whole").result
    assert whole is not None and whole["stopped_by"] == "patience" and whole["steps"] < 200
    scores = [line["accuracy"] for line in lines(tmp_path / "whole") if line["kind"] == "validation"]
    assert max(scores[-3:]) <= max(scores[:-3]) + 0.5
    train_in_two_parts(PATIENT, whole["steps"] - 3, tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    aibig.train(PATIENT, {"trainer.patience": 5}, out=tmp_path / "parts", resume=True)
    aibig.train(PATIENT, {"trainer.patience": 5}, out=tmp_path / "longer")
    assert_same_run(tmp_path / "longer", tmp_path / "parts")


@pytest.mark.parametrize("metric", ["log_loss", "recall"])
def test_the_best_model_is_that_of_the_chosen_metric(metric: str, tmp_path: Path) -> None:
    run = aibig.train(NETS, {"trainer.best_metric": metric, "optimizer.lr": 0.1}, out=tmp_path / "run")
    evaluated = {line["step"]: line[metric] for line in lines(run.path) if line["kind"] == "validation"}
    best = (min if metric == "log_loss" else max)(evaluated, key=lambda step: evaluated[step])
    assert run.result is not None and run.result["best_step"] == best


@pytest.mark.parametrize(
    ("config", "overrides", "error"),
    [
        (NETS, {"trainer.best_metric": "acuracy"}, r"did you mean 'accuracy' or .*; there are: accuracy, "),
        (DQN, {"trainer.best_metric": "loss"}, "'loss' is not evaluated; there are: mean_return"),
        (NETS, {"trainer.patience": 2, "data.validation_fraction": 0}, "patience: there is no validation split"),
    ],
)
def test_a_selection_that_cannot_be_is_refused_before_the_first_update(
    config: dict[str, Any], overrides: dict[str, Any], error: str
) -> None:
    with pytest.raises(aibig.UserError, match=error):
        aibig.train(config, overrides)
    assert not list(Path("runs").iterdir()), "a folder was left"


def test_a_model_that_does_not_fit_its_data_leaves_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(*_: Any) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Classification, "loss", loss)
    for out in (None, "mine"):
        with pytest.raises(RuntimeError, match="mat1 and mat2"):
            aibig.train(NETS, out=out)
    assert not list(Path("runs").iterdir()) and not Path("mine").exists()


def test_the_limit_that_ended_a_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = Limits({"steps": 10, "samples": 100}, max_seconds=5.0)
    assert limits.stop_reason(Progress(step=9), 4.9) is None
    assert limits.stop_reason(Progress(step=9), 5.0) == "max_minutes"
    assert limits.stop_reason(Progress(step=9, counts={"samples": 100}), 1.0) == "max_samples"
    assert aibig.train(NETS, out=tmp_path / "run").result["stopped_by"] == "max_steps"  # type: ignore[index]
    from families import train_command

    assert train_command(["--config", "nets/digits", "trainer.max_epochs=1"]) == 0
    assert "ended by max_epochs; run: runs/digits-0001\n" in capsys.readouterr().out


class Recorder(aibig.Callback):
    """Records its calls; raises at one of them."""

    def __init__(self, raise_at: tuple[str, int] = ("", 0)) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.raise_at = raise_at

    def record(self, event: str, step: int, argument: Any) -> None:
        self.calls.append((event, argument))
        if (event, step) == self.raise_at:
            raise Boom

    def on_begin(self, trainer: Any) -> None:
        self.record("begin", trainer.progress.step, trainer)

    def on_log(self, record: Any) -> None:
        self.record("log", record["step"], record)

    def on_evaluation(self, record: Any) -> None:
        self.record(record["kind"], record["step"], record)

    def on_save(self, path: Path) -> None:
        self.record("save", int(path.name[5:]), path)

    def on_end(self, result: Any) -> None:
        self.record("end", result.progress.step, result)


def test_callbacks_are_called_and_change_nothing(tmp_path: Path) -> None:
    recorder = Recorder()
    aibig.train(NETS, out=tmp_path / "watched", callbacks=[recorder])
    aibig.train(NETS, out=tmp_path / "alone")
    assert_same_run(tmp_path / "watched", tmp_path / "alone")
    events = [event for event, _ in recorder.calls]
    assert events[0] == "begin" and events[-2:] == ["test", "end"] and "save" in events
    written = [json.loads(line) for line in (tmp_path / "watched" / "metrics.jsonl").read_text().splitlines()]
    assert [argument for _, argument in recorder.calls if isinstance(argument, dict)] == written
    first = written[0]
    assert first["kind"] == "train" and first["parameter_norm"] > 0 and first["gradient_norm"] > 0
    assert 0.05 < first["peak_memory_gb"] < 100
    assert recorder.calls[-1][1].stopped_by == "max_steps"


@pytest.mark.parametrize("raise_at", [("log", 40), ("validation", 40), ("save", 40)])
def test_a_callback_that_fails_loses_nothing(
    raise_at: tuple[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {**NETS, "trainer": {**NETS["trainer"], "save_every": 40}}
    with pytest.raises(Boom):
        aibig.train(config, out=tmp_path / "parts", callbacks=[Recorder(raise_at)])
    assert "everything so far is saved; fix it and go on with --resume" in capsys.readouterr().err
    aibig.train(config, out=tmp_path / "parts", resume=True)
    aibig.train(config, out=tmp_path / "whole")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    ("family", "error"), [("nets", Boom), ("dqn", Boom), ("nets", aibig.UserError("b.png: is no image"))]
)
def test_an_evaluation_that_fails_loses_nothing(
    family: str, error: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aibig.training.trainer import Trainer

    validation_metrics = Trainer._validation_metrics

    def failing(self: Trainer) -> dict[str, float]:
        if self.progress.step == 40:
            raise error
        return validation_metrics(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_validation_metrics", failing)
        with pytest.raises((Boom, aibig.UserError)):
            aibig.train(FAMILIES[family], out=tmp_path / "parts")
    assert checkpoint.steps(tmp_path / "parts" / "checkpoints")[-1] == 40
    aibig.train(FAMILIES[family], out=tmp_path / "parts", resume=True)
    aibig.train(FAMILIES[family], out=tmp_path / "whole")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_an_error_within_an_update_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    batches, next_batch = 0, Classification.next_batch

    def failing(self: Classification) -> Any:
        nonlocal batches
        batches += 1
        if batches == 46:
            raise Boom
        return next_batch(self)

    config = {**NETS, "trainer": {**NETS["trainer"], "eval_every": 1000, "save_every": 20}}
    with monkeypatch.context() as patch:
        patch.setattr(Classification, "next_batch", failing)
        with pytest.raises(Boom):
            aibig.train(config, out=tmp_path / "parts")
    assert "the last checkpoint is of step 40; fix it" in capsys.readouterr().err
    aibig.train(config, out=tmp_path / "parts", resume=True)
    aibig.train(config, out=tmp_path / "whole")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_the_example_of_another_logger_works(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[dict[str, Any], int]] = []
    run = types.SimpleNamespace(log=lambda *line: logged.append(line), finish=lambda: None)
    wandb = types.SimpleNamespace(init=lambda **_: run)
    assert aibig.Callback.__doc__ is not None
    example = aibig.Callback.__doc__.partition("five lines:\n")[2]
    exec(textwrap.dedent(example), {"aibig": aibig, "wandb": wandb, "config": NETS})
    assert {"train/loss", "validation/accuracy", "test/accuracy"} <= {name for line, _ in logged for name in line}
    assert logged[-1][1] == 60


def test_tensorboard_has_each_point_once_after_a_resume(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = {**NETS, "trainer": {**NETS["trainer"], "tensorboard": True, "save_every": 30}}
    with pytest.raises(Boom):  # in an update, so that the points of 40 and 50 will be written again
        aibig.train(config, out=tmp_path / "run", callbacks=[Fails(55)])
    aibig.train(config, out=tmp_path / "run", resume=True)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    written = [line for line in lines(tmp_path / "run") if line["kind"] == "train"]
    points = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert points == [(line["step"], pytest.approx(line["loss"])) for line in written]
    assert [event.step for event in events.Scalars("test/accuracy")] == [60]


class Fails(aibig.Callback):
    """Makes an update fail."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_begin(self, trainer: Any) -> None:
        original = trainer.task.next_batch

        def next_batch() -> Any:
            if trainer.progress.step == self.at:
                raise Boom
            return original()

        trainer.task.next_batch = next_batch


def test_without_tensorboard_a_run_is_refused_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(aibig.UserError, match=r"pip install 'aibig\[tensorboard\]'"):
        aibig.train(NETS, {"trainer.tensorboard": True})
    assert not list(Path("runs").iterdir())
