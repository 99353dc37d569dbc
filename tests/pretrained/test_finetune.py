"""Fine-tuning: what is loaded, what is frozen and stays so, the learning rates of the rest, and exact resumes."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from families import DQN, NETS, REVIEWS, TEXTS
from published_gpt2 import gpt2_folder, tensors
from safetensors.torch import load_file
from test_resume import assert_same_run, train_in_two_parts
from torch import nn

import aibig
from aibig.config.registry import datasets
from aibig.data.arrays import Arrays
from aibig.data.bundled import digits
from aibig.training.optimizers.builders import adamw

HALVES: dict[str, Any] = {  # NETS with another head: below five, or not
    **NETS,
    "data": {"name": "halves", "batch_size": 32},
    "finetune": {"weights": "digits", "freeze": "all_but_head"},
}


@pytest.fixture
def halves() -> Iterator[None]:
    """A dataset that shares its images with digits, and has other classes."""

    @aibig.register_dataset("halves")
    def _halves() -> Arrays:
        source = digits()
        return Arrays(source.features, source.targets >= 5, ["below five", "five or more"])

    yield
    datasets._registered.clear()
    datasets._entries = None


def weights_of(run: str) -> dict[str, torch.Tensor]:
    return load_file(Path(run) / "model" / "weights.safetensors")


def test_a_frozen_body_stays_bit_for_bit_and_its_new_head_learns(
    halves: None, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = {"trainer.max_steps": 300, "trainer.eval_every": 300, "optimizer.lr": 1e-2}
    aibig.train(NETS, longer, out="digits")
    tuned = aibig.train(HALVES, longer, out="halves")
    assert capsys.readouterr().err == (
        "finetune: 2 of 4 tensors loaded from digits; newly initialised: "
        "head.weight (2, 16) was (10, 16), head.bias (2,) was (10,)\n"
    )
    before, after = weights_of("digits"), weights_of("halves")
    assert all(torch.equal(before[name], after[name]) for name in before if not name.startswith("head"))
    assert tuned.result is not None and tuned.result["metrics"]["accuracy"] > 0.75  # of the larger class: 0.5
    untrained = aibig.train(HALVES, {**longer, "finetune.weights": None}, out="untrained")
    assert untrained.result is not None
    assert untrained.result["metrics"]["accuracy"] < tuned.result["metrics"]["accuracy"] - 0.03


def test_stopping_and_resuming_changes_nothing_and_needs_no_weights(halves: None, tmp_path: Path) -> None:
    aibig.train(NETS, out="digits")
    config = {**HALVES, "finetune": {**HALVES["finetune"], "freeze": "nothing", "layer_decay": 0.5}}
    aibig.train(config, out=tmp_path / "whole")
    train_in_two_parts(config, 37, tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    shutil.rmtree("digits")
    longer = aibig.train(config, {"trainer.max_steps": 70}, out=tmp_path / "parts", resume=True)
    assert longer.result is not None and longer.result["steps"] == 70
    aibig.evaluate(tmp_path / "whole")
    with pytest.raises(aibig.UserError, match="finetune: digits: "):
        aibig.train(config, out=tmp_path / "new")


def test_an_agent_resumes_exactly(tmp_path: Path) -> None:
    aibig.train(DQN, {"trainer.max_steps": 20}, out="first")
    config = {**DQN, "finetune": {"weights": "first/model", "freeze": 1, "layer_decay": 0.7}}
    aibig.train(config, out=tmp_path / "whole")
    train_in_two_parts(config, 37, tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_target_network_begins_with_the_weights() -> None:
    from aibig.config.run_config import load_config
    from aibig.runs.train import build

    aibig.train(DQN, {"trainer.max_steps": 5}, out="first")
    _, task = build(load_config({**DQN, "finetune": {"weights": "first"}}))
    weights = weights_of("first")
    assert all(
        torch.equal(value, weights[name]) for name, value in task.target_networks["target_network"].state_dict().items()
    )
    assert all(torch.equal(value, weights[name]) for name, value in task.model.state_dict().items())


# ---------------------------------------------------------------- from Python


def cnn(**settings: Any) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = aibig.create_model("cnn", widths=[4, 6, 8], depth=1, **settings)
    return model


def test_a_frozen_norm_keeps_its_statistics_in_any_mode() -> None:
    model = aibig.finetune(cnn(), freeze=2)
    for tuned in (model, copy.deepcopy(model)):  # a copy is frozen by itself
        before = {name: value.clone() for name, value in tuned.state_dict().items()}
        tuned.eval()
        tuned.train()
        tuned(torch.randn(8, 1, 12, 12)).square().sum().backward()
        changed = {name for name, value in tuned.state_dict().items() if not torch.equal(value, before[name])}
        assert changed and all(name.startswith("stages.1") for name in changed), "only the last stage is not frozen"
        learning = {name for name, parameter in tuned.named_parameters() if parameter.grad is not None}
        assert {name.split(".")[0] for name in learning} == {"stages", "head"}
        assert {id(parameter) for group in adamw()(tuned).param_groups for parameter in group["params"]} == {
            id(tuned.get_parameter(name)) for name in learning
        }


def test_dropout_before_the_head_goes_on_when_the_body_is_frozen() -> None:
    model = aibig.finetune(aibig.create_model("alexnet", num_classes=2), freeze="all_but_head").train()
    assert model.classifier.training and model.classifier[3].training and model.classifier[6].training
    assert not model.features.training and not model.classifier[4].training
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == [
        "classifier.6.weight",
        "classifier.6.bias",
    ]


def test_the_learning_rate_falls_with_the_depth_below_the_head() -> None:
    model = aibig.finetune(aibig.create_model("net", hidden=[5, 6]), layer_decay=0.5)
    groups = adamw(lr=0.8, weight_decay=0.1)(model).param_groups
    rates = {
        name: (group["lr"], group["weight_decay"])
        for group in groups
        for name, parameter in model.named_parameters()
        if any(parameter is other for other in group["params"])
    }
    assert rates == {
        "hidden_layers.0.weight": (pytest.approx(0.2), 0.1),
        "hidden_layers.0.bias": (pytest.approx(0.2), 0.0),
        "hidden_layers.2.weight": (pytest.approx(0.4), 0.1),
        "hidden_layers.2.bias": (pytest.approx(0.4), 0.0),
        "head.weight": (0.8, 0.1),
        "head.bias": (0.8, 0.0),
    }
    assert groups[0]["lr"] == 0.8, "what is logged is the rate that was set"


def test_blocks_are_counted_from_the_input() -> None:
    vit = aibig.finetune(aibig.create_model("vit_b_32", image_size=32, num_classes=2), freeze=3)
    learning = {name for name, parameter in vit.named_parameters() if parameter.requires_grad}
    frozen = {name for name, _ in vit.named_parameters()} - learning
    assert {"class_token", "encoder.pos_embedding", "conv_proj.weight"} <= frozen
    assert {name.split(".")[2] for name in frozen if "encoder_layer_" in name} == {"encoder_layer_0", "encoder_layer_1"}
    assert {"encoder.ln.weight", "heads.head.weight", "encoder.layers.encoder_layer_2.ln_1.weight"} <= learning


def test_part_of_a_models_tensors_is_loaded_and_named(tmp_path: Path) -> None:
    torch.save(cnn().state_dict(), tmp_path / "grey.pth")
    model = aibig.finetune(cnn(in_channels=3, num_classes=7), weights=str(tmp_path / "grey.pth"))
    (line,) = model.adapted
    assert line == (
        f"finetune: 17 of 20 tensors loaded from {tmp_path / 'grey.pth'}; newly initialised: "
        "stem.0.weight (4, 3, 5, 5) was (4, 1, 5, 5), head.weight (7, 8) was (10, 8), head.bias (7,) was (10,)"
    )


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"weights": "nowhere"}, "nowhere: no such run, model folder or file of weights"),
        ({"weights": "."}, "holds no model"),
        ({"weights": "narrow.pth"}, "narrow.pth: none of its tensors fits this model"),
        ({"freeze": 4}, "freeze: 4 blocks, but the model has 3 below its head"),
        ({"freeze": "everything"}, "freeze must be one of 'nothing', 'all_but_head' or a whole number, at least 1"),
        ({"layer_decay": 1.5}, "layer_decay must be a number, from 0 to 1"),
    ],
)
def test_mistakes_are_named(settings: dict[str, Any], complaint: str) -> None:
    torch.save(nn.Linear(3, 2).state_dict(), "narrow.pth")
    with pytest.raises(aibig.UserError, match=complaint):
        aibig.finetune(cnn(), **settings)


def test_a_config_names_the_place_of_a_mistake() -> None:
    Path("x.yaml").write_text(
        "model: {name: net}\ntask: {name: classification}\ndata: {name: digits}\n"
        "finetune:\n  weight: digits\n  freeze: all\ntrainer: {max_steps: 1}\n"
    )
    with pytest.raises(aibig.UserError) as caught:
        aibig.load_config("x.yaml")
    lines = str(caught.value).splitlines()
    assert lines[0] == "x.yaml:5: finetune.weight: unknown setting; did you mean 'weights'?"
    assert lines[1].startswith("x.yaml:6: finetune.freeze: must be one of 'nothing', 'all_but_head'")


def test_a_model_without_known_blocks_is_refused() -> None:
    with pytest.raises(aibig.UserError, match="a Linear that create_model did not make has no known head"):
        aibig.finetune(nn.Linear(3, 2), freeze="all_but_head")


def test_what_was_not_loaded_is_not_frozen(tmp_path: Path) -> None:
    torch.save(cnn().state_dict(), tmp_path / "grey.pth")
    colour = {"weights": str(tmp_path / "grey.pth"), "freeze": 1}
    with pytest.raises(aibig.UserError, match=r"freeze: stem.0.weight is not in .*grey.pth with this shape"):
        aibig.finetune(cnn(in_channels=3), **colour)
    aibig.finetune(cnn(num_classes=3), **colour | {"freeze": "all_but_head"})


# ---------------------------------------------------------------- published models

TINY_GPT2 = {"vocab_size": 7, "context": 6, "width": 8, "layers": 2, "heads": 2}


def test_a_published_body_is_loaded_and_a_classifiers_head_is_new(tmp_path: Path) -> None:
    published = gpt2_folder(tmp_path / "published")
    model = aibig.create_model("gpt2", **TINY_GPT2 | {"context": 4, "num_classes": 3})
    for weights in (published, published / "model.safetensors"):
        model.adapted = []
        aibig.finetune(model, weights=str(weights), freeze="all_but_head")
        assert model.adapted == [
            f"finetune: 28 of 29 tensors loaded from {weights}; newly initialised: head.weight (3, 8)"
        ]
    assert torch.equal(model.position_embedding.weight, tensors()["wpe.weight"][:4])
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == ["head.weight"]
    longer = {"context": 9}
    with pytest.raises(
        aibig.UserError, match=r"'position_embedding.weight' has the shape \(6, 8\), but the model's has \(9, 8\)"
    ):
        aibig.finetune(aibig.create_model("gpt2", **TINY_GPT2 | longer), weights=str(published))


def test_a_file_of_published_tensors_is_loaded_too(tmp_path: Path) -> None:
    file = tmp_path / "elsewhere.bin"
    torch.save(tensors(), file)
    model = aibig.finetune(aibig.create_model("gpt2", **TINY_GPT2), weights=str(file))
    assert model.adapted == [f"finetune: 28 of 28 tensors loaded from {file}"]
    assert torch.equal(model.head.weight, tensors()["wte.weight"])


@pytest.mark.parametrize(
    ("name", "settings", "complaint"),
    [
        ("gpt2", {"width": 16}, "config.json: has width 8, but the model 16; leave width out"),
        ("gpt2", {"width": None}, "config.json: has width 8, but the model 768; leave width out"),
        ("gpt2", {"norm_eps": 1e-6}, "config.json: has norm_eps 1e-05, but the model 1e-06; leave norm_eps out"),
        (
            "gpt2",
            {"vocab_size": 9},
            "published: its vocabulary has 7 tokens, but the model's has 9; use its own tokenizer",
        ),
        ("bert", {}, "published: holds a gpt2, not a bert; set model.name=gpt2"),
    ],
)
def test_a_model_that_is_another_than_the_published_one_is_refused(
    tmp_path: Path, name: str, settings: dict[str, Any], complaint: str
) -> None:
    published = gpt2_folder(tmp_path / "published")
    small = {key: value for key, value in {**TINY_GPT2, **settings}.items() if value is not None}
    with pytest.raises(aibig.UserError, match=complaint):
        aibig.finetune(aibig.create_model(name, **small), weights=str(published))


def test_a_run_takes_the_settings_of_the_published_model_that_it_starts_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = gpt2_folder(tmp_path / "published", vocab_size=25)  # as many words as the sentences have
    config = {
        **TEXTS,
        "model": {"name": "gpt2", "dropout": 0.1},
        "data": {**TEXTS["data"], "max_tokens": 6},
        "finetune": {"weights": str(published)},
    }
    run = aibig.train(config, out="whole")
    assert "finetune: 28 of 29 tensors loaded" in capsys.readouterr().err
    settings = aibig.load_model(run.path).registered["settings"]
    assert settings["width"] == 8 and settings["dropout"] == 0.1 and settings["num_classes"] == 2
    train_in_two_parts(config, 37, Path("parts"))
    assert_same_run(Path("whole"), Path("parts"))
    shutil.rmtree(published)
    aibig.evaluate("whole")
    gpt2_folder(published, vocab_size=25)
    with pytest.raises(aibig.UserError) as caught:
        aibig.train({**config, "model": {"name": "gpt2", "heads": 4}})
    assert str(caught.value) == (
        f"config: finetune: {published}/config.json: has heads 2, but the model 4; leave heads out"
    )


# ---------------------------------------------------------------- from a language model to a classifier


def test_a_classifier_starts_from_a_language_model_of_its_sentences_and_of_no_other_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentences = {"name": "sentences", "path": str(REVIEWS), "tokenizer": "words", "batch_size": 4, "context": 8}
    language = {**TEXTS, "task": {"name": "language_modelling"}, "data": sentences}
    aibig.train(language, out="language")
    tokenizer = {"tokenizer": "language/model/model.json"}
    config = {**TEXTS, "data": {**TEXTS["data"], **tokenizer}, "finetune": {"weights": "language"}}
    tuned = aibig.train(config, {"trainer.max_steps": 1}, out="tuned")
    assert "finetune: 5 of 7 tensors loaded from language; newly initialised: head.weight" in capsys.readouterr().err
    before, after = (weights_of(str(run)) for run in ("language", tuned.path))
    assert (before["embedding.weight"] - after["embedding.weight"]).abs().max() < 0.02, "one step of 0.01"
    others = {**config, "data": {**TEXTS["data"], "vocab_size": 20}}
    with pytest.raises(aibig.UserError) as caught:
        aibig.train(others)
    cure = "set data.tokenizer=language/model/model.json"
    assert (
        str(caught.value)
        == f"config: finetune: language: was trained with a tokenizer other than that of the data; {cure}"
    )


def test_a_classifier_starts_from_a_masked_language_model_and_leaves_out_its_mask_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentences = {"name": "sentences", "path": str(REVIEWS), "tokenizer": "words", "batch_size": 4, "context": 8}
    bidirectional = {**TEXTS["model"], "bidirectional": True}
    masked = {"model": bidirectional, "task": {"name": "masked_language_modelling"}, "data": sentences}
    aibig.train({**TEXTS, **masked}, {"trainer.max_steps": 3}, out="masked")
    data = {**TEXTS["data"], "tokenizer": "masked/model/model.json"}
    config = {**TEXTS, "model": bidirectional, "data": data, "finetune": {"weights": "masked"}}
    tuned = aibig.train(config, {"trainer.max_steps": 1}, out="tuned")
    assert "finetune: 9 of 11 tensors loaded from masked; newly initialised: head.weight" in capsys.readouterr().err
    before, after = (weights_of(str(run))["embedding.weight"] for run in ("masked", tuned.path))
    assert len(before) == len(after) + 1
    assert (before[:-1] - after).abs().max() < 0.02, "one step of 0.01"
    train_in_two_parts(config, 37, Path("parts"))
    assert_same_run(Path(aibig.train(config, out="whole").path), Path("parts"))
