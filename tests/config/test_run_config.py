"""Configs: what is wrong is said with its place, all at once, and before torch."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from aibig.config.run_config import (
    Config,
    find_config,
    load_config,
    parse_overrides,
    shipped_configs,
)
from aibig.config.yaml_file import read_yaml
from aibig.errors import UserError

GOOD = """\
seed: 1
model:
  name: net
  hidden: 8
task:
  name: classification
data:
  name: digits
optimizer:
  lr: 1e-3
trainer:
  max_steps: 1e3
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def complaints(path: Path) -> list[str]:
    """The lines of the error that a config gives, without the file's folder."""
    with pytest.raises(UserError) as caught:
        load_config(path)
    return [line.replace(f"{path.parent}/", "") for line in str(caught.value).split("\n")]


def test_defaults_are_filled_in_and_numbers_are_numbers(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD), {"model.hidden": [4, 4]})
    assert config.values["optimizer"] == {
        **{"name": "adamw", "lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
    }
    assert config.values["trainer"]["max_steps"] == 1000
    assert config.values["schedule"] == {"name": "constant", "warmup_steps": 0}
    assert config.values["model"]["hidden"] == [4, 4]


@pytest.mark.parametrize(
    ("word", "value"),
    [
        *(("1:30", "1:30"), ("1:30.5", "1:30.5"), ("010", 10), ("-7", -7), ("1_000", 1000), ("0x1F", 31)),
        *(
            ("1e-3", 1e-3),
            (".5", 0.5),
            ("3.", 3.0),
            ("-1.5e+3", -1500.0),
            (".inf", float("inf")),
            ("2024-05", "2024-05"),
        ),
        *(("'1e3'", "1e3"), ("'12'", "12"), ("1.2.3", "1.2.3"), ("true", True), ("null", None)),
    ],
)
def test_a_value_is_read_as_it_looks_and_written_back_as_it_was(word: str, value: object, tmp_path: Path) -> None:
    read = parse_overrides([f"a.b={word}"])["a.b"]
    assert read == value and type(read) is type(value)
    config = Config({"a": {"b": read}})
    again, _ = read_yaml(write(tmp_path, config.to_yaml()))
    assert again["a"]["b"] == value and type(again["a"]["b"]) is type(value)


def test_a_run_from_a_mapping_is_named_by_model_and_data(tmp_path: Path) -> None:
    config, _ = read_yaml(write(tmp_path, GOOD))
    assert load_config(config).name == "net-digits"
    with pytest.raises(UserError, match=r"^config: trainer.max_steps: must be"):
        load_config({**config, "trainer": {"max_steps": "soon"}})
    acting = {"model": {"name": "dqn"}, "task": {"name": "q_learning"}, "data": {"name": "replay"}}
    assert load_config({**acting, "env": {"name": "CartPole-v1"}}).name == "dqn-CartPole-v1"


def test_a_resolved_config_is_a_config(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    again = load_config(write(tmp_path, config.to_yaml()))
    assert again.values == config.values
    assert yaml.safe_load(config.to_yaml())["optimizer"]["betas"] == [0.9, 0.999]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("  lr: 1e-3", "  learnrate: 1e-3", "x.yaml:10: optimizer.learnrate: unknown setting; did you mean 'lr'?"),
        ("  name: net", "  name: nett", "x.yaml:3: model.name: unknown model 'nett'; did you mean 'net'?"),
        ("digits", "digit", "x.yaml:8: data.name: unknown dataset 'digit'; did you mean 'digits'?"),
        ("hidden: 8", "hidden: -8", "x.yaml:4: model.hidden: must be a whole number, at least 1 or a list of"),
        ("hidden: 8", "hidden: 8\n  hidden: 9", "x.yaml:5: model.hidden: is set twice (before: x.yaml:4)"),
        ("optimizer:", "optimiser:", "x.yaml:9: optimiser: unknown section; did you mean 'optimizer'?"),
        ("seed: 1", "seed: -1", "x.yaml:1: seed: must be a whole number, at least 0, not -1"),
        ("max_steps: 1e3", "max_steps: soon", "x.yaml:12: trainer.max_steps: must be a whole number, at least 1 or"),
        ("max_steps: 1e3", "max_steps: [1", "x.yaml:13: not YAML: "),
        ("task:\n  name: classification\n", "", "x.yaml:1: task: this section is missing"),
        ("digits", "text", "x.yaml:7: data: dataset 'text' needs the setting 'path'"),
        ("digits", "text\n  path: nowhere.txt", "x.yaml:9: data.path: must be text, a file or folder that exists"),
        ("data:", "env:\n  name: CartPole-v1\ndata:", "x.yaml:7: env: the task 'classification' has no use for this"),
        ("  lr: 1e-3", "  lr: !!python/object:os.system x", "x.yaml:10: optimizer.lr: could not determine a constr"),
        ("model:", "model: net\nother:", "x.yaml:2: model: must hold a name and settings"),
    ],
)
def test_one_mistake_is_one_line_with_its_place(old: str, new: str, complaint: str, tmp_path: Path) -> None:
    lines = complaints(write(tmp_path, GOOD.replace(old, new, 1)))
    assert any(line.startswith(complaint) for line in lines), lines


def test_all_mistakes_are_said_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    broken = GOOD.replace("hidden: 8", "hiden: 8").replace("lr:", "lrr:").replace("max_steps", "max_step")
    lines = complaints(write(tmp_path, broken))
    assert [line.split(":")[1] for line in lines] == ["4", "10", "12"]


def test_an_override_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^command line: optimizer.lr: must be a number, greater than 0, not -1$"):
        load_config(write(tmp_path, GOOD), parse_overrides(["optimizer.lr=-1"]))
    with pytest.raises(UserError, match=r"write section\.setting=value"):
        parse_overrides(["lr"])
    assert parse_overrides(["optimizer.lr=3e-3", "model.hidden=[1, 2]", "seed=4"]) == {
        **{"optimizer.lr": 3e-3, "model.hidden": [1, 2], "seed": 4}
    }


@pytest.mark.parametrize("content", ["", "- a\n", "just words\n"])
def test_a_file_that_is_no_mapping_is_refused(content: str, tmp_path: Path) -> None:
    assert complaints(write(tmp_path, content))[0].startswith("x.yaml:")


@pytest.mark.parametrize("value", ["2020-99-99", "!!int foo", "&a [*a]"])
def test_a_value_that_yaml_cannot_make_is_named(value: str, tmp_path: Path) -> None:
    lines = complaints(write(tmp_path, GOOD.replace("hidden: 8", f"hidden: {value}")))
    assert len(lines) == 1 and lines[0].startswith("x.yaml:4: model.hidden: ")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01")
    assert complaints(path)[0].startswith("x.yaml: is not UTF-8 text (byte 0)")


def test_shipped_configs_are_found_by_name() -> None:
    assert "nets/digits" in shipped_configs()
    assert find_config("nets/digits").name == "digits.yaml"
    with pytest.raises(UserError, match="did you mean 'nets/digits'"):
        find_config("nets/digit")


def test_every_gymnasium_id_is_checked_or_refused_in_words() -> None:
    import gymnasium

    for name in gymnasium.registry:
        config = {"model": {"name": "dqn"}, "task": {"name": "q_learning"}, "data": {"name": "replay"}}
        try:
            load_config({**config, "env": {"name": name}, "trainer": {"max_steps": 1}})
        except UserError as error:
            assert "needs" in str(error), error
