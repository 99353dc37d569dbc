"""Objects from Python in place of names: they train, are described in config.yaml, and a resume needs them again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from families import DQN, LSTM, TRAINER
from gymnasium.wrappers import TimeLimit
from test_resume import assert_same_run, train_in_two_parts
from torch import nn

import aibig
from aibig.data.arrays import ArrayData, Arrays
from aibig.data.bundled import python_docs

POINTS = np.random.default_rng(0).normal(size=(200, 3))
SIGNS = POINTS[:, 0] > 0


def config(data: Any, task: str = "classification", **settings: Any) -> dict[str, Any]:
    """A short run on `data`."""
    return {
        "model": {"name": "net", "hidden": 8},
        "task": {"name": task},
        "data": {"name": data, **settings},
        "optimizer": {"lr": 1e-2},
        "trainer": {**TRAINER, "max_steps": 60},
    }


def table() -> pd.DataFrame:
    """The points as a table."""
    return pd.DataFrame(POINTS, columns=["x", "y", "z"]).assign(sign=np.where(SIGNS, "plus", "minus"))


def written(run: Any, section: str = "data") -> Any:
    """What config.yaml says in place of the name."""
    return yaml.safe_load((run.path / "config.yaml").read_text())[section]["name"]


@pytest.mark.parametrize(
    ("data", "settings", "described"),
    [
        (table, {"target": "sign"}, "<DataFrame 200 x 4>"),
        (lambda: (POINTS, SIGNS), {}, "<ndarray 200 x 3, ndarray 200>"),
        (lambda: (POINTS, SIGNS.astype(int)), {"batch_size": 16}, "<ndarray 200 x 3, ndarray 200>"),
        (lambda: (torch.tensor(POINTS), torch.tensor(SIGNS).long()), {}, "<Tensor 200 x 3, Tensor 200>"),
        (lambda: (POINTS.tolist(), SIGNS.tolist()), {}, "<list of 200, list of 200>"),
        (lambda: [POINTS, SIGNS], {"class_names": ["minus", "plus"]}, "<list of 2>"),
        (lambda: (table().drop(columns="sign"), table()["sign"]), {}, "<DataFrame 200 x 3, Series 200>"),
        (lambda: Arrays(POINTS, SIGNS, ["minus", "plus"]), {}, "<Arrays>"),
        (lambda: ArrayData(Arrays(POINTS, SIGNS, ["minus", "plus"])), {}, "<ArrayData>"),
    ],
    ids=["frame", "bool", "int", "tensors", "lists", "list", "frame-series", "arrays", "data"],
)
def test_data_stand_in_place_of_a_name(data: Callable[[], Any], settings: dict[str, Any], described: str) -> None:
    run = aibig.train(config(data(), **settings))
    assert run.result is not None and run.result["metrics"]["accuracy"] > 0.85
    assert written(run) == described


def test_pairs_are_values_for_a_regression() -> None:
    for targets, outputs in ((POINTS[:, 0], 1), (POINTS[:, :2], 2), (pd.Series(POINTS[:, 0].round()), 1)):
        run = aibig.train(config((POINTS, targets), "regression"))
        assert run.result is not None and run.result["metrics"]["r2"] > 0.7
        assert aibig.load_predictor(run.path).predict(POINTS).shape == (200, outputs)


@pytest.mark.parametrize(
    ("text", "described"),
    [
        (lambda: python_docs()[:50_000], "<text of 50,000 characters>"),
        (lambda: python_docs()[:50_000].split("\n\n"), "<list of "),
        (lambda: iter(python_docs()[:50_000].split("\n\n")), "<list_iterator>"),
    ],
    ids=["text", "list", "iterator"],
)
def test_texts_stand_in_place_of_a_name(text: Callable[[], Any], described: str) -> None:
    run = aibig.train({**LSTM, "data": {**LSTM["data"], "name": text()}})
    assert run.result is not None and written(run).startswith(described)
    assert len(aibig.load_predictor(run.path).generate("The ", max_tokens=5)) == 5


class Corridor(gymnasium.Env[Any, Any]):
    """Walk to the end."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, length: int = 3) -> None:
        self.length = length

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """To the beginning."""
        super().reset(seed=seed)
        self.place, self.steps = 0, 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Forward or back."""
        self.place, self.steps = self.place + 2 * int(action) - 1, self.steps + 1
        done = self.place >= self.length
        return np.array([self.place], np.float32), float(done), done, self.steps >= 20, {}


class Uncopied(Corridor):
    """One that holds what can't be copied."""

    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("holds a window")


@pytest.mark.parametrize(
    ("env", "settings", "described"),
    [
        (lambda: Corridor(2), {}, "<Corridor>"),
        (lambda: TimeLimit(Corridor(2), 9), {}, "<TimeLimit>"),
        (lambda: gymnasium.make("CartPole-v1"), {}, "<TimeLimit>"),
        (lambda: Corridor, {"length": 2}, "<class Corridor>"),
        (lambda: lambda: Corridor(2), {}, "<function "),
    ],
    ids=["env", "wrapped", "made", "class", "function"],
)
def test_environments_stand_in_place_of_a_name(
    env: Callable[[], Any], settings: dict[str, Any], described: str
) -> None:
    run = aibig.train({**DQN, "env": {"name": env(), "count": 2, **settings}})
    assert run.result is not None and run.result["metrics"]["mean_length"] > 1
    assert written(run, "env").startswith(described)
    with pytest.raises(aibig.UserError, match=r"was an object given from Python.* aibig.play\(RUN, OBJECT\) plays"):
        aibig.play(run.path)
    played = aibig.play(run.path, env(), episodes=3, seed=5)
    assert len(played.returns) == 3 and played.lengths.max() > 1


def test_an_environment_registered_with_its_class_is_known_with_its_settings() -> None:
    gymnasium.register("Corridor-v0", entry_point=Corridor)
    try:
        run = aibig.train({**DQN, "env": {"name": "Corridor-v0", "length": 2}})
        assert aibig.play(run.path, episodes=2).lengths.max() > 1
        with pytest.raises(aibig.UserError, match=r"env\.lenght: unknown setting; did you mean .length."):
            aibig.train({**DQN, "env": {"name": "Corridor-v0", "lenght": 2}})
    finally:
        del gymnasium.registry["Corridor-v0"]


def test_a_model_that_was_made_before_is_trained_itself() -> None:
    model = aibig.create_model("net", in_features=3, out_features=2, hidden=8)
    before = model.head.weight.detach().clone()
    run = aibig.train({**config((POINTS, SIGNS)), "model": {"name": model}})
    assert written(run, "model") == "<Net>" and not torch.equal(model.head.weight, before)
    assert torch.equal(aibig.load_model(run.path).head.weight, model.head.weight)


def test_a_run_on_an_object_resumes_exactly(tmp_path: Path) -> None:
    sections = config(table(), target="sign")
    aibig.train(sections, out=tmp_path / "whole")
    train_in_two_parts(sections, 37, tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_file_alone_does_not_bring_the_object_back(tmp_path: Path) -> None:
    run = aibig.train(config(table(), target="sign"), out=tmp_path / "run")
    with pytest.raises(aibig.UserError, match=r"<DataFrame 200 x 4> was an object given from Python.*give it again"):
        aibig.evaluate(run.path)
    longer = {"trainer.max_steps": 70}
    with pytest.raises(aibig.UserError, match="the run began with '<DataFrame 200 x 4>'"):
        aibig.train(config(table()[:100], target="sign"), longer, out=run.path, resume=True)
    with pytest.raises(aibig.UserError, match="are not those that the run began with"):
        aibig.train(config(table().assign(x=0.5 * POINTS[:, 1]), target="sign"), longer, out=run.path, resume=True)
    assert aibig.train(config(table(), target="sign"), longer, out=run.path, resume=True).result["steps"] == 70  # type: ignore[index]


@pytest.mark.parametrize(
    ("section", "value", "complaint"),
    [
        ("data", object(), "data.name: <object> is no data; give a name, a DataFrame, a torch Dataset"),
        ("data", POINTS, "data.name: <ndarray 200 x 3> is no data"),
        ("data", (POINTS, SIGNS[:3]), "200 rows of features do not match 3 targets"),
        ("data", (POINTS[:, 0], SIGNS), "the features are one number a row without columns; give them as .rows, 1."),
        ("data", ([[1, 2], [3]] * 30, SIGNS[:60]), "features and targets must be arrays: .*inhomogeneous"),
        ("data", Arrays(POINTS, SIGNS, ["-", "+"], ["x", "y"]), "feature_names has 2 names for 3 columns"),
        ("data", 3, "data: needs a name; there are: digits"),
        ("env", object(), "env.name: <object> is no environment; give a gymnasium id"),
        ("env", Uncopied(), "<Uncopied> can't be copied .holds a window.*give its class, or a function"),
        ("model", nn.Linear(3, 2), "model.name: <Linear> was not made by aibig.create_model, so it can't be saved"),
        ("optimizer", torch.optim.SGD, "optimizer.name: needs a name, not <class SGD>; there are: sgd"),
    ],
)
def test_an_object_that_cannot_be_used_is_named(section: str, value: Any, complaint: str) -> None:
    base = DQN if section == "env" else config((POINTS, SIGNS))
    with pytest.raises(aibig.UserError, match=complaint) as caught:
        aibig.train({**base, section: {"name": value}})
    assert "\n" not in str(caught.value) and not Path("runs").exists()


def test_nothing_big_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = table()
    monkeypatch.setattr(pd.DataFrame, "__deepcopy__", lambda *_: pytest.fail("copied"))
    value = aibig.load_config(config(frame, target="sign")).values["data"]["name"].value
    assert value is frame


class Pixels(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Images whose brightness says their class, with targets known beforehand."""

    def __init__(self) -> None:
        self.targets = [number % 2 for number in range(60)]

    def __len__(self) -> int:
        return 60

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        return torch.full((1, 8, 8), float(self.targets[number])), self.targets[number]


def test_a_torch_dataset_stands_in_place_of_a_name() -> None:
    config = {
        "model": {"name": "cnn", "widths": [4, 8], "depth": 1},
        "task": {"name": "classification"},
        "data": {"name": Pixels(), "batch_size": 10, "workers": 0},
        "trainer": {"max_epochs": 10, "threads": 1},
    }
    run = aibig.train(config)
    assert run.result is not None and run.result["metrics"]["accuracy"] == 1.0


def test_a_run_on_an_object_is_measured_when_it_is_given_again(tmp_path: Path) -> None:
    frame = pd.DataFrame(POINTS, columns=["a", "b", "c"]).assign(sign=np.where(SIGNS, "plus", "minus"))
    run = aibig.train(config(frame, target="sign"), out=tmp_path / "run")
    assert run.result is not None
    with pytest.raises(aibig.UserError, match=r"was an object given from Python.*aibig.evaluate\(RUN, OBJECT\)"):
        aibig.evaluate(run.path)
    found = aibig.evaluate(run.path, frame)
    assert dict(found) == pytest.approx(run.result["metrics"], abs=1e-5) and (run.path / "report.html").is_file()


def test_features_may_have_a_column_named_target(tmp_path: Path) -> None:
    frame = pd.DataFrame(POINTS, columns=["target", "b", "c"])
    run = aibig.train(config((frame, SIGNS)), out=tmp_path / "run")
    assert run.result is not None and run.result["metrics"]["accuracy"] > 0.8
