"""Text generation: in batches, up to stop strings, with drafts and quantized weights, and in conversations."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

import aibig
from aibig import cli
from aibig.data.text.tokenizer import ByteTokenizer, CharacterTokenizer
from aibig.errors import UserError
from aibig.inference.chat import Chat
from aibig.inference.predictor import load_predictor
from aibig.inference.streaming import StreamingDecoder

TEXT = "User: hi\n\nAssistant: the quick brown fox jumps over the lazy dog.\n\n" * 40
PROMPTS = ["the quick", "User: hi\n\nAss", "o"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A Transformer that has memorised its text, a smaller one, an LSTM, and one with another vocabulary."""
    folder = tmp_path_factory.mktemp("runs")
    models: dict[str, dict[str, Any]] = {
        "large": {"name": "gpt", "width": 32, "layers": 2, "heads": 2},
        "small": {"name": "transformer", "width": 16, "layers": 1, "heads": 2},
        "lstm": {"name": "lstm", "hidden": 16, "embedding": 8, "layers": 1},
        "bytes": {"name": "transformer", "width": 16, "layers": 1, "heads": 2},
    }
    for name, model in models.items():
        config = {
            "model": model,
            "task": {"name": "language_modelling"},
            "data": {
                "name": TEXT,
                "batch_size": 8,
                "context": 32,
                "tokenizer": "bytes" if name == "bytes" else "characters",
            },
            "optimizer": {"name": "muon", "lr": 1e-2},
            "trainer": {"max_steps": 60 if name == "large" else 5, "threads": 1, "eval_every": 100},
        }
        aibig.train(config, out=folder / name)
    return {name: folder / name for name in models}


def test_a_batch_gives_what_each_prompt_gives_alone_and_a_draft_changes_nothing(runs: dict[str, Path]) -> None:
    settings: dict[str, Any] = {"max_tokens": 40, "temperature": 0.0}
    together = aibig.generate(runs["large"], PROMPTS, **settings)
    assert together == [aibig.generate(runs["large"], prompt, **settings) for prompt in PROMPTS]
    assert together[0].startswith(" brown fox"), "it has not learned its text"
    for draft in ("small", "lstm"):
        assert aibig.generate(runs["large"], PROMPTS, draft=runs[draft], **settings) == together
    for weights in ("int8", "float16"):
        assert aibig.generate(runs["large"], "the quick", weights=weights, **settings).startswith(" brown fox")


def test_a_text_ends_before_a_stop_string_no_part_of_which_is_shown(runs: dict[str, Path]) -> None:
    pieces = [*load_predictor(runs["large"]).stream("the quick", stop=["lazy", "\n"], temperature=0.0)]
    assert "".join(pieces) == " brown fox jumps over the "
    assert aibig.generate(runs["large"], "the quick", stop=["zzz"], temperature=0.0, max_tokens=6) == " brown"


def test_text_that_is_not_yet_certain_is_held_back() -> None:
    decoder = StreamingDecoder(CharacterTokenizer("abcx"), ["abc"])
    tokens = {"a": 0, "b": 1, "c": 2, "x": 3}
    assert [decoder.add([tokens[character]]) for character in "xabxab"] == ["x", "", "", "abx", "", ""]
    assert decoder.flush() == "ab" and not decoder.is_finished
    assert decoder.add([2]) == "" and decoder.is_finished and decoder.add([3]) == decoder.flush() == ""
    decoder = StreamingDecoder(ByteTokenizer())
    assert [decoder.add([byte]) for byte in "ż".encode()] == ["", "ż"]


def test_mistakes_are_reported_in_a_line(runs: dict[str, Path]) -> None:
    for settings, words in (
        ({"draft": runs["bytes"]}, "draft: has another vocabulary"),
        ({"weights": "int3"}, "weights: must be one of"),
        ({"temperature": -1.0}, "temperature must be"),
        ({"top_p": 2.0}, "top_p must be"),
        ({"stop": [""]}, "no empty stop string"),
    ):
        with pytest.raises(UserError, match=words):
            aibig.generate(runs["large"], "the", **settings)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="can't decode speculatively"):
        aibig.generate(runs["lstm"], "the", draft=runs["small"])
    with pytest.raises(UserError, match="the character 'ż'"):
        aibig.generate(runs["large"], ["the", "ż"])


def test_a_prompt_beyond_the_context_is_reported_and_continued(runs: dict[str, Path], capsys: Any) -> None:
    words = ["generate", str(runs["large"]), "--prompt", TEXT[:50], "--max-tokens", "5"]
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert err == "the prompt has 50 tokens, more than the model's context of 32: its last 16 are read\n"
    assert out.startswith(TEXT[:50]) and len(out) == 56


def test_prompts_from_words_and_files_come_in_one_batch(runs: dict[str, Path], capsys: Any, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("over the")
    words = ["generate", str(runs["large"]), "--prompt", "the quick", "--prompt-file", "prompt.txt", "--json"]
    assert cli.main([*words, "--temperature", "0", "--stop", "fox", "--top-k", "3", "--max-tokens", "10"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results == [{"prompt": "the quick", "text": " brown "}, {"prompt": "over the", "text": " lazy dog."}]
    assert cli.main(["generate", str(runs["large"])]) == 2 and "--prompt TEXT" in capsys.readouterr().err


def test_a_conversation_ends_each_answer_where_the_users_turn_would_begin(runs: dict[str, Path]) -> None:
    chat = Chat(load_predictor(runs["large"]), temperature=0.0, max_tokens=60)
    answer = "".join(chat.reply("hi"))
    assert answer.strip() == "the quick brown fox jumps over the lazy dog."
    assert chat.transcript == f"User: hi\n\nAssistant:{answer.rstrip()}\n\n"
    before = chat.transcript
    with pytest.raises(UserError, match="the character"):
        next(chat.reply("żółw"))
    assert chat.transcript == before
    chat.reset()
    assert chat.transcript == ""


def test_chat_in_a_terminal(runs: dict[str, Path], capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hi\nżółw\n/reset\nhi\n/quit\nhi\n"))
    assert cli.main(["chat", str(runs["large"]), "--temperature", "0", "--max-tokens", "60"]) == 0
    out, err = capsys.readouterr()
    assert out.count("Assistant: the quick brown fox") == 2 and "the character 'ż'" in err
