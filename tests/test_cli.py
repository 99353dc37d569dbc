"""The commands as a user types them: what they print, and what they say to mistakes."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from families import DQN, NETS, TRANSFORMER

import aibig
from aibig import cli


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    code = cli.main(list(words))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_models_are_listed_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "models")
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == aibig.list_models()
    assert "61" in run(capsys, "models", "net", "--parameters")[1].split()
    code, out, err = run(capsys, "models", "trans*er")
    assert code == 0 and len(out.splitlines()) == 1
    code, out, err = run(capsys, "models", "lstn")
    assert (code, out, err) == (2, "", "unknown model 'lstn'; did you mean 'lstm'?\n")


def test_a_run_from_file_to_prediction(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Path("my.yaml").write_text(yaml.safe_dump(NETS))
    code, out, err = run(capsys, "train", "--config", "my.yaml", "optimizer.lr=1e-2")
    assert code == 0 and "accuracy" in out and "runs/my-0001" in out
    progress = err.splitlines()
    assert progress[0] == "run: runs/my-0001" and progress[-1].startswith("step 60: validation accuracy 0."), err
    folder = Path("runs/my-0001")
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.yaml", "metrics.jsonl", "result.json", "checkpoints", "model"}
    assert yaml.safe_load((folder / "config.yaml").read_text())["optimizer"]["lr"] == 1e-2
    result = json.loads((folder / "result.json").read_text())
    assert result["steps"] == 60 and result["device"] and result["precision"] == "fp32"
    assert result["throughput"]["unit"] == "samples/s" and result["parameters"] == 64 * 16 + 16 + 16 * 10 + 10

    code, out, _ = run(capsys, "evaluate", str(folder), "--json")
    found = json.loads(out)
    assert code == 0 and found["metrics"] == pytest.approx(result["metrics"])
    assert len(found["per_class"]) == 10 and (folder / "report.html").samefile(found["report"])
    Path("x.csv").write_text(",".join(["1"] * 64))
    assert run(capsys, "train", "--config", "my.yaml", "--json", "--out", "quiet")[2] == ""
    code, out, _ = run(capsys, "predict", str(folder / "model"), "x.csv")
    assert code == 0 and out.splitlines()[0] == "label,0,1,2,3,4,5,6,7,8,9" and len(out.splitlines()) == 2

    assert run(capsys, "train", "--config", "my.yaml")[1].endswith("runs/my-0002\n")
    assert run(capsys, "train", "--config", str(folder / "config.yaml"), "--out", "again")[0] == 0
    again = json.loads(Path("again/result.json").read_text())
    assert again["metrics"] == result["metrics"], "the resolved config is not enough to run again"


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_text_is_written_on(capsys: pytest.CaptureFixture[str]) -> None:
    aibig.train(TRANSFORMER, {"trainer.max_steps": 5}, out="run")
    code, out, _ = run(capsys, "generate", "run", "--prompt", "The ", "--max-tokens", "20")
    assert code == 0 and out.startswith("The ") and len(out) == 25
    assert run(capsys, "predict", "run", "The ")[1].startswith("token,probability\n")
    code, out, err = run(capsys, "generate", "run", "--prompt", "żółw")
    assert (code, out) == (2, "") and "the character" in err and len(err.splitlines()) == 1
    code, out, err = run(capsys, "play", "run")
    assert code == 2 and "use: aibig generate run" in err


def test_an_agent_plays(capsys: pytest.CaptureFixture[str]) -> None:
    aibig.train(DQN, {"trainer.max_steps": 5}, out="run")
    code, out, _ = run(capsys, "play", "run", "--episodes", "2")
    assert code == 0 and len([line for line in out.splitlines() if line.startswith("episode")]) == 2
    assert "95 % interval" in out and "95 % interval" not in run(capsys, "play", "run", "--episodes", "1")[1]
    played = json.loads(run(capsys, "play", "run", "--episodes", "5", "--json")[1])
    low, high = played["intervals"]["interquartile_mean_return"]
    assert low <= played["interquartile_mean_return"] <= high and len(played["returns"]) == 5
    code, _, err = run(capsys, "predict", "run", "x.csv")
    assert code == 2 and "use: aibig play run" in err
    code, _, err = run(capsys, "play", "run", "--gif", "nowhere/film.gif")
    assert code == 2 and "nowhere/film.gif: there is no folder" in err
    pytest.importorskip("pygame", reason="which CartPole is drawn by")
    assert run(capsys, "play", "run", "--episodes", "1", "--gif", "film.gif")[0] == 0
    assert Path("film.gif").read_bytes().startswith(b"GIF89a")


def test_a_run_is_measured_with_intervals_and_compared(capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        aibig.train(NETS, {"seed": number, "trainer.max_steps": 20}, out=f"run{number}")
    code, out, err = run(capsys, "evaluate", "run1", "--bootstrap", "--split", "validation")
    table, by_class, page, _ = out.split("\n\n")[0], out.split("\n\n")[1], *out.split("\n\n")[2].split("\n")
    assert (code, err, page) == (0, "", "page: run1/report-validation.html") and Path(page[6:]).is_file()
    assert table.splitlines()[0].split() == ["metric", "value", "95", "%", "interval"]
    name, value, low, _, high = table.splitlines()[1].split()
    assert name == "accuracy" and float(low) <= float(value) <= float(high)
    assert len(by_class.splitlines()) == 11
    assert run(capsys, "evaluate", "run2", "--no-report")[0] == 0 and not Path("run2/report.html").exists()
    assert run(capsys, "evaluate", "run2", "--report", "mine.html")[1].endswith("page: mine.html\n")

    code, out, _ = run(capsys, "compare", "run1", "run2")
    assert code == 0 and out.splitlines()[:2] == ["setting  run1  run2", "seed     1     2"]
    assert out.endswith("page: compare.html\n")
    found = json.loads(run(capsys, "compare", "run1", "run2", "--json", "--no-report")[1])
    assert [row["settings"] for row in found["runs"]] == [{"seed": 1}, {"seed": 2}] and found["report"] is None

    code, out, err = run(capsys, "evaluate", "run1", "nothing.csv")
    assert (code, out, err) == (2, "", "nothing.csv: no such file or folder to evaluate on\n")
    code, out, err = run(capsys, "evaluate", "run1", "--report", "no/such/folder.html")
    assert code == 2 and err.startswith("no/such/folder.html: the page can't be written") and err.count("\n") == 1
    aibig.train({**NETS, "data": {"name": "digits", "test_fraction": 0.0}}, {"trainer.max_steps": 2}, out="untested")
    code, out, err = run(capsys, "evaluate", "untested")
    assert code == 2 and err.startswith("untested: the run has no test split") and err.count("\n") == 1


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    assert end.value.code == 0 and f"example: aibig {command} runs/" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["train", "--config", "nowhere.yaml"], "nowhere.yaml: no such config file"),
        (["train"], "command line: --config FILE is missing"),
        (["train", "--config", "nets/digits", "--resume"], "runs/: holds no run of 'digits' to resume"),
        (["train", "--config", "nets/digits", "--resume", "--out", "x"], "x: holds no run to resume"),
        (["train", "--config", "nets/digits", "model.name=lstmm"], "command line: model.name: unknown model 'lstmm'"),
        (["train", "--config", "nets/digits", "trainer.device=tpu9"], "trainer.device: 'tpu9' can't be used here"),
        (["train", "--config", "nets/digits", "model.out_features=3"], "is 3, but the data make it 10; leave it out"),
        (["train", "--config", "nets/digits", "task.name=regression"], "task.label_smoothing: unknown setting"),
        (["train", "--config", "dqn/cartpole", "env.name=CartPool-v1"], "did you mean 'CartPole-v1'"),
        (
            ["train", "--config", "dqn/cartpole", "env.name=Pendulum-v1"],
            "needs a Discrete one (env.name: from the command line)",
        ),
        (
            ["train", "--config", "dqn/cartpole", "data.capacity=10"],
            "data.capacity 10 is less than a batch, 128; set more",
        ),
        (["train", "--config", "dqn/cartpole", "env.name=Maze-v9"], "import what registers one of your own before"),
        (["train", "--config", "unlimited.yaml"], "unlimited.yaml:1: trainer: no limit is set"),
        (["train", "--config", "dqn/cartpole", "trainer.max_epochs=3"], "this task has no epochs to count"),
        (["train", "--config", "mismatched.yaml"], "the targets are classes, not continuous values; use the task"),
        (["evaluate", "nowhere"], "nowhere: holds no run"),
        (["evaluate", "nowhere", "mismatched.yaml"], "nowhere: holds no model"),
        (["compare", "nowhere"], "nowhere: holds no run"),
        (["predict", "nowhere", "x.csv"], "nowhere: holds no model"),
        (["generate", "nowhere", "--prompt", "x"], "nowhere: holds no model"),
        (["play", "nowhere"], "nowhere: holds no model"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Path("mismatched.yaml").write_text(yaml.safe_dump({**NETS, "task": {"name": "regression"}}))
    Path("unlimited.yaml").write_text(yaml.safe_dump({name: NETS[name] for name in ("model", "task", "data")}))
    code, out, err = run(capsys, *words)
    assert code == 2 and out == "" and complaint in err
    assert len(err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mismatched.yaml", "unlimited.yaml"], (
        "a refused command wrote something"
    )


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_shows_an_example_that_it_understands(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    assert f"example: aibig {command} {cli.EXAMPLES[command].split()[0]}" in capsys.readouterr().out
    parsed: list[argparse.Namespace] = []
    monkeypatch.setattr(cli, "_run", lambda args: parsed.append(args) or 0)
    assert cli.main([command, *shlex.split(cli.EXAMPLES[command])]) == 0 and parsed[0].command == command


def test_results_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "train", "--config", "nets/digits", "trainer.max_epochs=1", "--json")
    result = json.loads(out)
    assert code == 0 and result.pop("path") == "runs/digits-0001" and result["stopped_by"] == "max_epochs"
    assert result == json.loads(Path("runs/digits-0001/result.json").read_text())
    code, out, _ = run(capsys, "models", "--json")
    assert code == 0 and [row["name"] for row in json.loads(out)] == aibig.list_models()
    code, out, err = run(capsys, "train", "--config", "nets/digits", "--check", "--seeds", "2")
    assert code == 2 and "--check trains and writes nothing" in err


def test_overrides_stand_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--config", "nets/digits", "trainer.max_steps=3", "--out", "run", "seed=1"]
    assert run(capsys, *words)[0] == 0
    assert yaml.safe_load(Path("run/config.yaml").read_text())["seed"] == 1


def test_a_misspelt_name_costs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from aibig.cli import main\n"
        "code = main(['train', '--config', 'nets/digits', 'optimizer.name=adamm'])\n"
        "print(code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "2 False\n"
    assert done.stderr == "command line: optimizer.name: unknown optimizer 'adamm'; did you mean 'adam' or 'adamw'?\n"


def test_a_folder_in_use_is_never_written_into(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    code, _, err = run(capsys, "train", "--config", "nets/digits", "trainer.max_steps=1", "--out", "mine")
    assert code == 2 and err.startswith("mine: is not empty")
    assert [path.name for path in Path("mine").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    "name", ["csv", "resnet18", "trainer", "finetune", "q_learning", "digits", "CIFAR10", "net", "CartPole-v1"]
)
def test_settings_are_listed_with_what_they_take(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "describe", name, "--json")
    listed = {key: setting for settings in json.loads(out).values() for key, setting in settings.items()}
    assert code == 0 and all(setting["takes"] and setting["default"] for setting in listed.values())
    known = {"csv": "target", "resnet18": "num_classes", "trainer": "patience", "finetune": "freeze", "net": "hidden"}
    assert known.get(name, next(iter(listed))) in listed
    assert run(capsys, "describe", name)[1].count("\n") >= len(listed)


def test_everything_that_a_config_can_name_is_listed_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    listed = json.loads(run(capsys, "describe", "--json")[1])
    assert "net" in listed["models"] and "q_learning" in listed["tasks"] and "dqn/cartpole" in listed["configs"]
    assert "\ntasks: classification, " in run(capsys, "describe")[1]
    out = run(capsys, "describe", "CartPole-v1")[1]
    assert "sutton_barto_reward" in out and '"vector_entry_point", the environment' in out


def test_a_settings_line_stands_below_it_and_nowhere_else(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (settings,) = json.loads(run(capsys, "describe", "net", "--json")[1]).values()
    lines = run(capsys, "describe", "net")[1].splitlines()
    for name, setting in settings.items():
        (number,) = (number for number, line in enumerate(lines) if line.split(" ")[0] == name)
        assert lines[number].split()[1] == setting["default"]
        assert setting["about"] and lines[number + 1] == f"    {setting['about']}"
    assert "Args:" not in "\n".join(lines) and lines[-2].startswith("Linear - ReLU")


def test_what_nothing_is_named_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "describe", "digitz")
    assert code == 2 and err == "nothing is named 'digitz'; did you mean 'digits'?\n"
