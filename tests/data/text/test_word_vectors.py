"""Word vectors from files: what is read, what is random, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import aibig
from aibig.data.text.tokenizer import make_tokenizer, tokenizer_from_dict
from aibig.data.text.word_vectors import WordVectors, load_word_vectors, vector_width, words_by_id
from aibig.errors import UserError

GLOVE = "the 0.5 -1e-2 3\ncat 1 2 3\n. . . 7 8 9\nthe 9 9 9\nnaïve .5 5. 1E1\n"


def read(tmp_path: Path, content: str | bytes, words: list[str], seed: int = 0) -> WordVectors:
    path = tmp_path / "v.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_word_vectors(path, words, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("content", [GLOVE, "5 3\n" + GLOVE, GLOVE.replace("\n", " \r\n")])
def test_vectors_are_at_the_ids_of_their_words(content: str, tmp_path: Path) -> None:
    words = ["<unk>", "cat", "naïve", "The", ". . .", "the", "dog"]
    vectors = read(tmp_path, content, words)
    assert vectors.in_file.tolist() == [False, True, True, True, True, True, False]
    expected = [[1, 2, 3], [0.5, 5, 10], [0.5, -0.01, 3], [7, 8, 9], [0.5, -0.01, 3]]
    np.testing.assert_allclose(vectors.matrix[1:6], expected)
    assert vector_width(tmp_path / "v.txt") == 3
    tokens = torch.tensor([0, 1, 1, 5])
    assert vectors.coverage(tokens) == "word vectors: 5 of 7 words (75.0 % of the text)"


def test_unknown_words_get_random_vectors_distributed_like_the_known_ones(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    known = generator.normal([5.0, -1.0], [0.1, 2.0], size=(2000, 2))
    content = "".join(f"w{number} {first} {second}\n" for number, (first, second) in enumerate(known))
    words = [f"w{number}" for number in range(2000)] + [f"u{number}" for number in range(2000)]
    vectors = read(tmp_path, content, words)
    random = vectors.matrix[2000:]
    np.testing.assert_allclose(random.mean(0), known.mean(0), atol=0.2)
    np.testing.assert_allclose(random.std(0), known.std(0), rtol=0.1)
    assert torch.equal(read(tmp_path, content, words).matrix, vectors.matrix)
    assert not torch.equal(read(tmp_path, content, words, seed=1).matrix[2000:], random)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("a 1 2\nb 1 2 3\n", "v.txt:2: has 3 numbers, where 2 were expected"),
        ("a 1 2\nb 1\n", "v.txt:2: has 1 numbers, where 2 were expected"),
        ("2 3\na 1 2\n", "v.txt:2: has 2 numbers, where 3 were expected"),
        ("a 1 2\nb 1 x\n", "v.txt:2: 'x' is not a finite number"),
        ("a 1 2\nb nan 1\n", "v.txt:2: 'nan' is not a finite number"),
        ("a 1 2\nb inf 1\n", "v.txt:2: 'inf' is not a finite number"),
        ("a 1 2\nb 1e99 1\n", "v.txt:2: '1e99' is not a finite number"),
        ("a 1 2\nb 1_0 1\n", "v.txt:2: '1_0' is not a finite number"),
        ("a 1 2\nb  1\n", "v.txt:2: '' is not a finite number"),
        ("a 1 2\nword\n", "v.txt:2: has a word without numbers"),
        ("", "v.txt: is empty"),
        ("\n\n", "v.txt: is empty"),
        ("3 2\na 1 2\nb 1 2\n", "v.txt: its first line announces 3 words, but there are 2: incomplete"),
        ("c 1 2\n", "v.txt: has vectors for none of the 2 words"),
        ("a 1 2\nna\xefve 1 2\n".encode("latin-1"), r"v.txt:2: is not UTF-8 text \(byte 2\)"),
    ],
)
def test_a_file_that_is_wrong_is_named(content: Any, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        read(tmp_path, content, ["a", "b"])
    assert "\n" not in str(caught.value)


def test_the_words_of_a_vocabulary_come_in_the_order_of_their_ids() -> None:
    tokenizer = make_tokenizer("words", "b b b a a c", 10)
    assert words_by_id(tokenizer) == ["<unk>", "b", "a", "c"]
    with pytest.raises(UserError, match=r"set data\.tokenizer=words, not characters"):
        words_by_id(make_tokenizer("characters", "abc", 0))


CLASSIFIER: dict[str, Any] = {
    "model": {"name": "lstm", "hidden": 8},
    "task": {"name": "text_classification"},
    "data": {"name": "text_labels", "path": "x.tsv", "batch_size": 8},
    "optimizer": {"name": "adamw", "lr": 1e-2},
    "trainer": {"max_steps": 6},
}
LANGUAGE: dict[str, Any] = {
    "model": {"name": "transformer", "heads": 1, "layers": 1},
    "task": {"name": "language_modelling"},
    "data": {"name": "text", "path": "x.txt", "tokenizer": "words", "batch_size": 2, "context": 8},
    "trainer": {"max_steps": 3},
}


@pytest.mark.parametrize("config", [CLASSIFIER, LANGUAGE], ids=["text_classification", "language_modelling"])
@pytest.mark.parametrize("freeze", [False, True])
def test_a_model_starts_from_word_vectors_and_takes_their_width(
    config: dict[str, Any], freeze: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("x.tsv").write_text("good stuff\t1\nbad stuff\t0\n" * 30)
    Path("x.txt").write_text("good stuff\nbad stuff\n" * 60)
    Path("v.vec").write_text("2 6\ngood 1 2 3 4 5 6\nbad -1 -2 -3 -4 -5 -6\n")
    overrides = {"task.word_vectors": "v.vec", "task.freeze_word_vectors": freeze}
    run = aibig.train(config, overrides)
    assert "data: word vectors: 2 of 4 words (50.0 % of the text)\n" in capsys.readouterr().err
    weight = aibig.load_model(run.path).embedding.weight
    assert weight.shape == (4, 6)
    facts = json.loads((run.path / "model" / "model.json").read_text())
    words = words_by_id(tokenizer_from_dict(facts.get("preprocessor", facts)["tokenizer"]))
    rows = weight[[words.index("bad"), words.index("good")]]
    frozen = torch.equal(rows, torch.tensor([[-1.0], [1.0]]) * torch.arange(1.0, 7.0))
    assert frozen == freeze
    width = "embedding" if config is CLASSIFIER else "width"
    with pytest.raises(UserError, match=f"model.{width}: is 50, but the data make it 6; leave it out"):
        aibig.train(config, {**overrides, f"model.{width}": 50})


@pytest.mark.parametrize("freeze", [False, True])
def test_a_run_with_word_vectors_resumes_without_their_file(freeze: bool) -> None:
    Path("x.tsv").write_text("good stuff\t1\nbad stuff\t0\n" * 30)
    Path("v.txt").write_text("good 1 2 3 4 5 6\nbad -1 -2 -3 -4 -5 -6\n")
    task = {"name": "text_classification", "word_vectors": "v.txt", "freeze_word_vectors": freeze}
    config = {**CLASSIFIER, "task": task}
    whole = aibig.load_model(aibig.train(config, out="whole").path).state_dict()
    aibig.train(config, {"trainer.max_steps": 3}, out="parts")
    Path("v.txt").unlink()
    parts = aibig.load_model(aibig.train(config, out="parts", resume=True).path).state_dict()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    aibig.evaluate("parts", report=False)
    with pytest.raises(UserError, match=r"task: v\.txt: cannot be read: No such file"):
        aibig.train(config)
    with pytest.raises(UserError, match="freeze_word_vectors: there are no word vectors"):
        aibig.train(CLASSIFIER, {"task.freeze_word_vectors": True})
