"""Language models write on: with memory as without, in a batch as alone, with a draft as without."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import aibig
from aibig.errors import UserError
from aibig.generation.language_model import LanguageModel
from aibig.generation.quantized import shrink

PARTS: dict[str, dict[str, Any]] = {
    "rotary": {},
    "learned": {"positions": "learned", "norm": "layer", "bias": True},
    "none": {"positions": "none"},
    "grouped": {"kv_heads": 2},
    "window": {"window": 5},
    "convolutions": {"conv": 3},
}


def transformer(seed: int = 0, **settings: Any) -> LanguageModel:
    torch.manual_seed(seed)
    given = {"vocab_size": 20, "context": 16, "width": 16, "layers": 2, "heads": 4, "head_std": 1.0, **settings}
    model: LanguageModel = aibig.create_model("transformer", **given).eval()
    for name, one in model.named_parameters():
        if "conv" in name:
            torch.nn.init.normal_(one, std=0.3)
    return model


def lstm(seed: int = 0) -> LanguageModel:
    torch.manual_seed(seed)
    model: LanguageModel = aibig.create_model("lstm", vocab_size=20, embedding=8, hidden=16).eval()
    torch.nn.init.normal_(model.head.weight, std=2.0)
    return model


MODELS = {**{name: (lambda parts=parts: transformer(**parts)) for name, parts in PARTS.items()}, "lstm": lstm}
PROMPTS, LENGTHS = torch.randint(20, (3, 9), generator=torch.Generator().manual_seed(1)), torch.tensor([9, 1, 4])


def without_memory(model: LanguageModel, text: list[int], count: int) -> list[int]:
    """The likeliest token each time; where the context is full, its latest half is read again."""
    text, begin = list(text), 0
    for _ in range(count):
        if model.context is not None and len(text) - begin > model.context:
            begin = len(text) - model.context // 2
        with torch.no_grad():
            text.append(int(model(torch.tensor([text[begin:]]))[0][0, -1].argmax()))
    return text[-count:]


@pytest.mark.parametrize("name", MODELS)
def test_likeliest_tokens_with_memory_are_those_without_alone_and_in_a_batch_beyond_the_context(name: str) -> None:
    model = MODELS[name]()
    made = model.generate(PROMPTS, LENGTHS, max_tokens=30, temperature=0)
    for row, length in enumerate(LENGTHS.tolist()):
        prompt = PROMPTS[row : row + 1, :length]
        assert made[row] == without_memory(model, prompt[0].tolist(), 30)
        assert model.generate(prompt, max_tokens=30, temperature=0) == [made[row]]


@pytest.mark.parametrize("name", ["rotary", "lstm"])
def test_what_a_row_draws_depends_on_its_own_seed_alone(name: str) -> None:
    model = MODELS[name]()
    settings = {"max_tokens": 30, "temperature": 2.0, "top_p": 0.9, "repetition_penalty": 1.2}
    made = model.generate(PROMPTS, LENGTHS, seed=[3, 4, 5], **settings)
    assert model.generate(PROMPTS[1:2, :1], seed=4, **settings) == [made[1]]
    assert model.generate(PROMPTS[1:2, :1], seed=5, **settings) != [made[1]]


@pytest.mark.parametrize(
    ("name", "draft"),
    [*((name, "transformer") for name in PARTS), *(("rotary", one) for one in ("lstm", "short", "itself"))],
)
def test_a_draft_changes_no_likeliest_token(name: str, draft: str) -> None:
    model = MODELS[name]()
    drafts = {"lstm": lstm, "transformer": lambda: transformer(7), "short": lambda: transformer(7, context=5)}
    drafting = model if draft == "itself" else drafts[draft]()
    settings = {"max_tokens": 30, "temperature": 0, "repetition_penalty": 1.3}
    expected = model.generate(PROMPTS, LENGTHS, **settings)
    assert model.generate(PROMPTS, LENGTHS, draft=drafting, draft_tokens=3, **settings) == expected


def test_a_draft_changes_no_distribution() -> None:
    model, draft, rows = transformer(vocab_size=3), transformer(5, vocab_size=3), 6_000
    prompts, shares = torch.tensor([[0, 1]]).expand(rows, -1), []
    for drafting in ({}, {"draft": draft, "draft_tokens": 2}):
        made = torch.tensor(model.generate(prompts, max_tokens=3, seed=range(rows), **drafting))
        texts = (made * torch.tensor([9, 3, 1])).sum(1)
        shares.append(torch.bincount(texts, minlength=27) / rows)
    assert (shares[0] - shares[1]).abs().max() < 0.02 and shares[0].max() < 0.5


def test_a_good_draft_is_accepted_and_asks_the_model_less_often() -> None:
    model, calls = transformer(context=64), []
    model.register_forward_hook(lambda *_: calls.append(1))
    model.generate(PROMPTS[:1], max_tokens=31, temperature=0, draft=transformer(context=64), draft_tokens=4)
    assert len(calls) == 7, "the prompt, and six times five tokens"


def test_rows_end_by_stop_token_by_request_or_by_number() -> None:
    model = transformer(context=64)
    whole = model.generate(PROMPTS, LENGTHS, max_tokens=20, temperature=0)
    stop = whole[0][6]
    made = model.generate(PROMPTS, LENGTHS, max_tokens=20, temperature=0, stop_tokens=[stop])
    for long, short in zip(whole, made, strict=True):
        assert short == (long[: long.index(stop) + 1] if stop in long else long)
    assert len(made[0]) <= 7 and model.generate(PROMPTS, LENGTHS, max_tokens=0) == [[], [], []]
    stream, added = model.stream(PROMPTS, LENGTHS, max_tokens=20, temperature=0), [0, 0, 0]
    for step in stream:
        added = [before + len(new) for before, new in zip(added, step, strict=True)]
        if added[1] == 4:
            stream.end(1)
    assert added == [20, 4, 20]


def test_what_cannot_be_written_on_is_named() -> None:
    classifier = aibig.create_model("transformer", vocab_size=20, num_classes=2)
    with pytest.raises(UserError, match="a classifier of texts writes none"):
        classifier.generate(PROMPTS)
    with pytest.raises(UserError, match="Lstm can't be drafted"):
        lstm().generate(PROMPTS, draft=transformer())
    with pytest.raises(UserError, match="has a vocabulary of 21 tokens, the model one of 20"):
        transformer().generate(PROMPTS, draft=transformer(vocab_size=21))
    with pytest.raises(UserError, match="max_tokens must be a whole number, at least 0"):
        transformer().generate(PROMPTS, max_tokens=-1)
    with pytest.raises(UserError, match="draft_tokens must be a whole number, at least 1"):
        transformer().generate(PROMPTS, draft=transformer(), draft_tokens=0)
    broken = transformer()
    torch.nn.init.constant_(broken.head.weight, torch.nan)
    with pytest.raises(UserError, match="not finite"):
        broken.generate(PROMPTS)


@pytest.mark.parametrize(("kind", "error"), [("float16", 0.002), ("int8", 0.1)])
def test_small_weights_give_nearly_the_same_logits_and_mostly_the_same_tokens(kind: str, error: float) -> None:
    model, small = (transformer(width=64, context=64, bias=True, norm="layer") for _ in range(2))
    assert shrink(small, kind) is small and not any(isinstance(one, torch.nn.Linear) for one in small.modules())
    tokens = torch.randint(20, (8, 60), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        exact, near = model(tokens)[0], small(tokens)[0]
    assert 0 < (near - exact).square().mean().sqrt() < error * exact.std()
    assert (near.argmax(-1) == exact.argmax(-1)).float().mean() > 1 - 2 * error
    assert len(small.generate(PROMPTS, LENGTHS, max_tokens=5)[0]) == 5
