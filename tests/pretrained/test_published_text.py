"""A published model generates, is evaluated, and its tokenizer serves a classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from families import REVIEWS, TEXTS
from published_gpt2 import gpt2_folder
from tokenizers import Tokenizer as Library
from tokenizers import models, normalizers, pre_tokenizers, processors

import aibig
from aibig.config.registry import datasets
from aibig.data.text.text_labels import read_sentences
from aibig.data.text.tokenizer import load_tokenizer, make_tokenizer


def word_piece_tokenizer(file: Path) -> Path:
    """A tokenizer.json as BERT's: lower case, word pieces, [CLS] before and [SEP] after a text."""
    words = sorted({word for text in read_sentences(path=str(REVIEWS)) for word in text.split()})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words, "##s"]
    library = Library(models.WordPiece({token: number for number, token in enumerate(tokens)}, unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer(lowercase=True)
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    library.enable_padding(length=64)
    library.enable_truncation(4)
    library.save(str(file))
    return file


def test_a_published_model_generates_and_is_evaluated(tmp_path: Path) -> None:
    text = "one two three, one two three. " * 20
    tokenizer = make_tokenizer("bpe", text, 270)
    folder = gpt2_folder(tmp_path / "published", vocab_size=tokenizer.vocab_size)
    with pytest.raises(aibig.UserError, match=r"published/tokenizer.json' is neither a kind nor a file"):
        aibig.generate(folder, "one")
    tokenizer.save(folder / "tokenizer.json")
    predictor = aibig.load_predictor(folder)
    assert predictor.generate("one two", max_tokens=4, temperature=0.0) == aibig.generate(
        folder, "one two", max_tokens=4, temperature=0.0
    )
    (tmp_path / "x.txt").write_text(text)
    assert 3 < aibig.evaluate(folder, tmp_path / "x.txt", report=False)["loss"] < 100


def test_a_classifier_uses_a_published_tokenizer_with_its_special_tokens(tmp_path: Path) -> None:
    file = word_piece_tokenizer(tmp_path / "tokenizer.json")
    tokenizer = load_tokenizer(file)
    assert tokenizer.encode_with_special_tokens("AWFULS zzz").tolist()[0] == 2 and len(tokenizer.encode("a " * 9)) == 9
    data = datasets.create("text_labels", path=str(REVIEWS), tokenizer=str(file))
    tokens, lengths = data.splits["train"].sentences.batch(torch.arange(5))
    assert (tokens[:, 0] == 2).all() and (tokens[torch.arange(5), lengths - 1] == 3).all()


def test_bert_learns_sentences_with_such_a_tokenizer(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        **TEXTS,
        "model": {"name": "bert", "width": 16, "layers": 1, "heads": 2},
        "data": {**TEXTS["data"], "tokenizer": str(word_piece_tokenizer(tmp_path / "tokenizer.json"))},
        "optimizer": {"name": "adamw", "lr": 1e-2},
    }
    run = aibig.train(config, {"trainer.max_steps": 120, "trainer.eval_every": 60})
    assert run.result is not None and run.result["metrics"]["accuracy"] > 0.9
