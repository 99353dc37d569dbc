"""Decoding: the same with a KV cache as without, in a batch as alone, with a draft as without."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import aibig
from aibig.errors import UserError
from aibig.generation.language_model import LanguageModel
from aibig.generation.quantized import quantize

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
    defaults = {"vocab_size": 20, "context": 16, "width": 16, "layers": 2, "heads": 4, "head_std": 1.0}
    model: LanguageModel = aibig.create_model("transformer", **defaults | settings).eval()
    for name, parameter in model.named_parameters():
        if "conv" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def lstm(seed: int = 0) -> LanguageModel:
    torch.manual_seed(seed)
    model: LanguageModel = aibig.create_model("lstm", vocab_size=20, embedding=8, hidden=16).eval()
    torch.nn.init.normal_(model.head.weight, std=2.0)
    return model


MODELS = {**{name: (lambda parts=parts: transformer(**parts)) for name, parts in PARTS.items()}, "lstm": lstm}
PROMPTS, LENGTHS = torch.randint(20, (3, 9), generator=torch.Generator().manual_seed(1)), torch.tensor([9, 1, 4])


def greedy_without_state(model: LanguageModel, prompt: list[int], count: int) -> list[int]:
    """The most likely token each time; where the context is full, its latest half is read again."""
    sequence, start = list(prompt), 0
    for _ in range(count):
        if model.context is not None and len(sequence) - start > model.context:
            start = len(sequence) - model.context // 2
        with torch.no_grad():
            sequence.append(int(model(torch.tensor([sequence[start:]]))[0][0, -1].argmax()))
    return sequence[-count:]


@pytest.mark.parametrize("name", MODELS)
def test_greedy_decoding_is_the_same_without_state_and_alone_as_in_a_batch_also_beyond_the_context(name: str) -> None:
    model = MODELS[name]()
    continuations = model.generate(PROMPTS, LENGTHS, max_tokens=30, temperature=0)
    for row, length in enumerate(LENGTHS.tolist()):
        prompt = PROMPTS[row : row + 1, :length]
        assert continuations[row] == greedy_without_state(model, prompt[0].tolist(), 30)
        assert model.generate(prompt, max_tokens=30, temperature=0) == [continuations[row]]


@pytest.mark.parametrize("name", ["rotary", "lstm"])
def test_what_is_sampled_for_a_row_depends_on_its_own_seed_alone(name: str) -> None:
    model = MODELS[name]()
    settings = {"max_tokens": 30, "temperature": 2.0, "top_p": 0.9, "repetition_penalty": 1.2}
    continuations = model.generate(PROMPTS, LENGTHS, seed=[3, 4, 5], **settings)
    assert model.generate(PROMPTS[1:2, :1], seed=4, **settings) == [continuations[1]]
    assert model.generate(PROMPTS[1:2, :1], seed=5, **settings) != [continuations[1]]


@pytest.mark.parametrize(
    ("name", "draft"),
    [*((name, "transformer") for name in PARTS), *(("rotary", draft) for draft in ("lstm", "short", "itself"))],
)
def test_a_draft_changes_no_token_of_greedy_decoding(name: str, draft: str) -> None:
    model = MODELS[name]()
    drafts = {"lstm": lstm, "transformer": lambda: transformer(7), "short": lambda: transformer(7, context=5)}
    draft_model = model if draft == "itself" else drafts[draft]()
    settings = {"max_tokens": 30, "temperature": 0, "repetition_penalty": 1.3}
    expected = model.generate(PROMPTS, LENGTHS, **settings)
    assert model.generate(PROMPTS, LENGTHS, draft=draft_model, draft_tokens=3, **settings) == expected


def test_a_draft_changes_no_distribution() -> None:
    model, draft, rows = transformer(vocab_size=3), transformer(5, vocab_size=3), 6_000
    prompts, frequencies = torch.tensor([[0, 1]]).expand(rows, -1), []
    for settings in ({}, {"draft": draft, "draft_tokens": 2}):
        continuations = torch.tensor(model.generate(prompts, max_tokens=3, seed=range(rows), **settings))
        numbers = (continuations * torch.tensor([9, 3, 1])).sum(1)  # of the 27 continuations
        frequencies.append(torch.bincount(numbers, minlength=27) / rows)
    assert (frequencies[0] - frequencies[1]).abs().max() < 0.02 and frequencies[0].max() < 0.5


def test_a_good_draft_is_accepted_and_the_model_is_called_less_often() -> None:
    model, calls = transformer(context=64), []
    model.register_forward_hook(lambda *_: calls.append(1))
    model.generate(PROMPTS[:1], max_tokens=31, temperature=0, draft=transformer(context=64), draft_tokens=4)
    assert len(calls) == 7, "the prompt, and six times five tokens"


def test_rows_finish_by_stop_token_by_request_or_by_max_tokens() -> None:
    model = transformer(context=64)
    whole = model.generate(PROMPTS, LENGTHS, max_tokens=20, temperature=0)
    stop = whole[0][6]
    stopped = model.generate(PROMPTS, LENGTHS, max_tokens=20, temperature=0, stop_tokens=[stop])
    for long, short in zip(whole, stopped, strict=True):
        assert short == (long[: long.index(stop) + 1] if stop in long else long)
    assert len(stopped[0]) <= 7 and model.generate(PROMPTS, LENGTHS, max_tokens=0) == [[], [], []]
    stream, counts = model.stream(PROMPTS, LENGTHS, max_tokens=20, temperature=0), [0, 0, 0]
    for step in stream:
        counts = [count + len(new) for count, new in zip(counts, step, strict=True)]
        if counts[1] == 4:
            stream.finish(1)
    assert counts == [20, 4, 20]


def test_what_cannot_be_decoded_is_named() -> None:
    classifier = aibig.create_model("transformer", vocab_size=20, num_classes=2)
    with pytest.raises(UserError, match="a text classifier can't generate"):
        classifier.generate(PROMPTS)
    with pytest.raises(UserError, match="Lstm can't decode speculatively"):
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


@pytest.mark.parametrize(("dtype", "error"), [("float16", 0.002), ("int8", 0.1)])
def test_quantized_weights_give_nearly_the_same_logits_and_mostly_the_same_tokens(dtype: str, error: float) -> None:
    model, quantized = (transformer(width=64, context=64, bias=True, norm="layer") for _ in range(2))
    assert quantize(quantized, dtype) is quantized
    assert not any(isinstance(module, torch.nn.Linear) for module in quantized.modules())
    tokens = torch.randint(20, (8, 60), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        exact, near = model(tokens)[0], quantized(tokens)[0]
    assert 0 < (near - exact).square().mean().sqrt() < error * exact.std()
    assert (near.argmax(-1) == exact.argmax(-1)).float().mean() > 1 - 2 * error
    assert len(quantized.generate(PROMPTS, LENGTHS, max_tokens=5)[0]) == 5
