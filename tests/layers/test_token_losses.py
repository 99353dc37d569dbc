"""The scores that losses are made of: right, exact in their gradients, and small in memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from aibig.layers import token_losses
from aibig.layers.token_losses import TokenScores, capped, token_scores

VOCABULARY, SHAPE = 11, (2, 7)
EVERY_WAY = pytest.mark.parametrize(  # at_once: tokens whose logits may stand in memory, of 14
    ("at_once", "width", "cap", "biased"),
    [(14, 5, None, True), (14, 5, 3.0, True), (3, 5, None, True), (3, 5, 3.0, False), (14, 12, 3.0, True)],
)


def make_inputs(width: int, biased: bool, dtype: torch.dtype = torch.float64, scale: float = 1.0) -> tuple[Any, ...]:
    """hidden (2, 7, C), weight (V, C), bias (V) or None, targets (2, 7)."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((*SHAPE, width), (VOCABULARY, width), (VOCABULARY,))
    hidden, weight, bias = (
        torch.randn(one, generator=generator, dtype=torch.float64).mul(scale).to(dtype).requires_grad_()
        for one in shapes
    )
    return hidden, weight, bias if biased else None, torch.randint(VOCABULARY, SHAPE, generator=generator)


def reference(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, cap: float | None) -> TokenScores:
    """The same from logits that stand in memory."""
    logits = capped(F.linear(hidden, weight, bias), cap)
    target_logit = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return TokenScores(logits.logsumexp(-1), target_logit, logits.mean(-1))


@pytest.fixture
def slices(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """The logits of so many tokens may stand in memory."""
    monkeypatch.setitem(token_losses.LOGITS_AT_ONCE, "cpu", at_once * VOCABULARY)


@EVERY_WAY
@pytest.mark.usefixtures("slices")
def test_scores_are_those_of_the_whole_logits(width: int, cap: float | None, biased: bool) -> None:
    inputs = make_inputs(width, biased)
    torch.testing.assert_close(token_scores(*inputs, cap=cap)[:3], reference(*inputs, cap)[:3])


@EVERY_WAY
@pytest.mark.usefixtures("slices")
def test_gradients_are_exact_for_any_use_of_the_scores(width: int, cap: float | None, biased: bool) -> None:
    hidden, weight, bias, targets = make_inputs(width, biased)
    given = (hidden, weight) if bias is None else (hidden, weight, bias)

    def scores(hidden: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, ...]:
        return token_scores(hidden, weight, bias, targets, cap=cap)[:3]

    assert torch.autograd.gradcheck(scores, given)


@EVERY_WAY
@pytest.mark.usefixtures("slices")
@pytest.mark.parametrize("part", range(3))
def test_one_score_alone_may_be_used(part: int, width: int, cap: float | None, biased: bool) -> None:
    inputs = make_inputs(width, biased)
    wanted = [one for one in inputs[:3] if one is not None]
    found, expected = (
        torch.autograd.grad(one[part].square().sum(), wanted, allow_unused=True, materialize_grads=True)
        for one in (token_scores(*inputs, cap=cap), reference(*inputs, cap))
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("cap", [None, 30.0])
def test_large_logits_keep_their_digits(cap: float | None) -> None:
    """A target that is all but impossible, 1,000 nats away, or all but sure."""
    hidden, weight, _, targets = make_inputs(5, False, torch.float32, scale=20.0)
    found = token_scores(hidden, weight, None, targets, cap=cap)
    expected = reference(hidden.double(), weight.double(), None, targets, cap)
    assert cap is not None or expected.nats.max() > 500
    for one, other in zip(found[:3], expected[:3], strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("at_once", [100, 3])
@pytest.mark.usefixtures("slices")
def test_bf16_keeps_the_gradient_of_a_target_that_is_all_but_sure() -> None:
    hidden = torch.full((8, 5), 1.0, requires_grad=True)
    weight = torch.zeros(VOCABULARY, 5)
    weight[4] = 2.0  # a logit of 10 beside ten of 0: the target's share is 0.9995, which is 1 in bf16
    weight.requires_grad_()
    targets = torch.full((8,), 4)
    with torch.autocast("cpu", torch.bfloat16):
        scores = token_scores(hidden, weight, None, targets)
    assert {one.dtype for one in scores[:3]} == {torch.float32}
    found = torch.autograd.grad(scores.nats.sum(), [hidden, weight])
    expected = torch.autograd.grad(reference(hidden, weight, None, targets, None).nats.sum(), [hidden, weight])
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.0)


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that is made."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else [made]:
            if isinstance(one, Tensor):
                self.elements = max(self.elements, one.untyped_storage().nbytes() // one.element_size())
        return made


@pytest.mark.parametrize("cap", [None, 3.0])
def test_logits_never_stand_whole_in_memory(cap: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, vocabulary, at_once = 256, 50, 8
    monkeypatch.setitem(token_losses.LOGITS_AT_ONCE, "cpu", at_once * vocabulary)
    hidden = torch.randn(tokens, 4, requires_grad=True)
    weight = torch.randn(vocabulary, 4, requires_grad=True)
    with Largest() as largest:
        scores = token_scores(hidden, weight, None, torch.randint(vocabulary, (tokens,)), cap=cap)
        (scores.nats + scores.mean_logit).sum().backward()
    assert largest.elements == tokens * 4  # the states


@EVERY_WAY
@pytest.mark.usefixtures("slices")
def test_compiled_it_is_the_same(width: int, cap: float | None, biased: bool) -> None:
    inputs = make_inputs(width, biased)
    wanted = [one for one in inputs[:3] if one is not None]

    def loss(*inputs: Any) -> Tensor:
        scores = token_scores(*inputs, cap=cap)
        return (scores.nats + scores.logsumexp.square() - scores.mean_logit).mean()

    compiled = torch.compile(loss, backend="aot_eager")
    found, expected = (torch.autograd.grad(one(*inputs), wanted) for one in (compiled, loss))
    torch.testing.assert_close(found, expected)
