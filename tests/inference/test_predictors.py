"""A model folder alone predicts as the task does."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from families import FAMILIES, LSTM
from sklearn.datasets import load_digits

import aibig
from aibig.errors import UserError
from aibig.inference.predictor import load_predictor

ENOUGH = {"trainer.max_steps": 60, "optimizer.lr": 1e-2, "trainer.ema_decay": None}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model folder of each family, away from its run."""
    folders = {}
    for family, config in FAMILIES.items():
        home = tmp_path_factory.mktemp(family)
        run = aibig.train(config, ENOUGH, out=home / "run")
        shutil.move(run.path / "model", home / "alone")
        shutil.rmtree(run.path)
        folders[family] = home / "alone"
    return folders


def test_rows_give_the_probabilities_of_their_classes(folders: dict[str, Path], tmp_path: Path) -> None:
    predictor = load_predictor(folders["nets"])
    features, targets = load_digits(return_X_y=True)
    probabilities = predictor.predict(features)
    assert probabilities.shape == (1797, 10) and np.allclose(probabilities.sum(1), 1)
    assert (probabilities.argmax(1) == targets).mean() > 0.5
    np.savetxt(tmp_path / "x.csv", features[:5], delimiter=",")
    names = ",".join(["id", *predictor.feature_names[::-1]])
    rows = [",".join(["7", *map(str, row[::-1])]) for row in features[:5]]
    (tmp_path / "named.csv").write_text("\n".join([names, *rows]))
    np.save(tmp_path / "x.npy", features[:5])
    for file in ("x.csv", "named.csv", "x.npy"):
        predictions = list(predictor.predict_file(tmp_path / file))
        assert [row["label"] for row in predictions] == [str(label) for label in probabilities[:5].argmax(1)], file
        assert [row["3"] for row in predictions] == pytest.approx(probabilities[:5, 3].tolist()), file


def test_rows_from_python_give_what_those_of_a_file_give(folders: dict[str, Path], tmp_path: Path) -> None:
    features = load_digits(return_X_y=True)[0][:5]
    np.save(tmp_path / "x.npy", features)
    from_file = list(aibig.predict(folders["nets"], tmp_path / "x.npy"))
    table = pd.DataFrame(features, columns=load_predictor(folders["nets"]).feature_names)
    for inputs in (features, table[table.columns[::-1]]):
        assert list(aibig.predict(folders["nets"], inputs)) == from_file


def test_regression_gives_values_in_the_targets_units(folders: dict[str, Path]) -> None:
    from aibig.data.bundled import diabetes

    values = load_predictor(folders["regression"]).predict(diabetes().features)
    assert values.shape == (442, 1) and 100 < values.mean() < 200


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("1,2\n", "x.csv:1: has 2 columns; the model needs 64"),
        (",".join(["1"] * 64) + "\n" + ",".join(["1"] * 63 + ["many"]) + "\n", "x.csv:2: column 64 is 'many'"),
        (",".join(["1"] * 64) + "\n1,2\n", "x.csv:2: column 3 is missing"),
        ("", "x.csv: is empty"),
    ],
)
def test_a_table_that_does_not_fit_is_named(
    content: str, complaint: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(UserError, match=complaint):
        list(load_predictor(folders["nets"]).predict_file(tmp_path / "x.csv"))


@pytest.mark.parametrize("family", ["lstm", "transformer"])
def test_text_continues_the_same_with_its_state_as_without(family: str, folders: dict[str, Path]) -> None:
    generator = load_predictor(folders[family])
    prompt = "The "
    continuation = generator.generate(prompt, max_tokens=10, temperature=0)
    tokens = generator.tokenizer.encode(prompt).tolist()
    for _ in range(10):
        logits, _ = generator.model(torch.tensor([tokens]))
        tokens.append(int(logits[0, -1].argmax()))
    assert prompt + continuation == generator.tokenizer.decode(tokens)


@pytest.mark.parametrize("family", ["lstm", "transformer"])
def test_text_continues_beyond_the_context_and_by_its_seed(family: str, folders: dict[str, Path]) -> None:
    generator = load_predictor(folders[family])
    prompt = "A prompt that is longer than the context of sixteen"
    texts = [generator.generate(prompt, max_tokens=60, seed=seed) for seed in (1, 1, 2)]
    assert len(texts[0]) == 60 and texts[0] == texts[1] != texts[2]
    assert generator.generate(prompt, max_tokens=9, top_k=1) == generator.generate(prompt, max_tokens=9, temperature=0)


@pytest.mark.parametrize(("prompt", "complaint"), [("", "the prompt is empty"), ("日本", "the character '日'")])
def test_a_prompt_that_cannot_be_read_is_named(prompt: str, complaint: str, folders: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=complaint):
        load_predictor(folders["lstm"]).generate(prompt)


def test_next_tokens_are_the_likeliest(folders: dict[str, Path]) -> None:
    probabilities = [share for _, share in load_predictor(folders["transformer"]).next_tokens("The nex", 5)]
    assert len(probabilities) == 5 and probabilities == sorted(probabilities, reverse=True)


def test_an_agent_plays_in_its_environment(folders: dict[str, Path]) -> None:
    agent = load_predictor(folders["dqn"])
    returns, lengths = agent.play(episodes=3, seed=4)
    assert returns.tolist() == lengths.tolist() == agent.play(episodes=3, seed=4)[0].tolist()


def test_a_folder_without_a_model_is_named(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no model"):
        aibig.load_model(tmp_path)
    with pytest.raises(UserError, match="use: aibig play"):
        load_predictor(folders["dqn"], "text_generator")
    broken = shutil.copytree(folders["nets"], tmp_path / "broken")
    (broken / "weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="can't be loaded into 'net'"):
        aibig.load_model(broken)
    (broken / "model.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        aibig.load_model(broken)


def test_words_continue_after_a_blank(tmp_path: Path) -> None:
    words = {**LSTM, "data": {**LSTM["data"], "tokenizer": "words", "vocab_size": 50}}
    run = aibig.train(words, {"trainer.max_steps": 2}, out=tmp_path / "run")
    assert aibig.generate(run.path, "the", max_tokens=3).startswith(" ")
