"""The scores that token losses are made of: right, exact in their gradients, and small in memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from aibig.layers import token_losses
from aibig.layers.token_losses import TokenLossTerms, softcap, token_loss_terms

VOCABULARY, SHAPE = 11, (2, 7)
EVERY_CASE = pytest.mark.parametrize(  # chunk_size: tokens, of 14, whose logits may be in memory
    ("chunk_size", "width", "cap", "biased"),
    [(14, 5, None, True), (14, 5, 3.0, True), (3, 5, None, True), (3, 5, 3.0, False), (14, 12, 3.0, True)],
)


def make_inputs(width: int, biased: bool, dtype: torch.dtype = torch.float64, scale: float = 1.0) -> tuple[Any, ...]:
    """hidden (2, 7, C), weight (V, C), bias (V) or None, targets (2, 7)."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((*SHAPE, width), (VOCABULARY, width), (VOCABULARY,))
    hidden, weight, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64).mul(scale).to(dtype).requires_grad_()
        for shape in shapes
    )
    return hidden, weight, bias if biased else None, torch.randint(VOCABULARY, SHAPE, generator=generator)


def reference(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, cap: float | None
) -> TokenLossTerms:
    """The same from logits that are in memory."""
    logits = softcap(F.linear(hidden, weight, bias), cap)
    target_logit = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return TokenLossTerms(logits.logsumexp(-1), target_logit, logits.mean(-1))


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch, chunk_size: int) -> None:
    """The logits of so many tokens may be in memory."""
    monkeypatch.setitem(token_losses.MAX_LOGITS, "cpu", chunk_size * VOCABULARY)


@EVERY_CASE
@pytest.mark.usefixtures("chunks")
def test_scores_are_those_of_the_whole_logits(width: int, cap: float | None, biased: bool) -> None:
    inputs = make_inputs(width, biased)
    torch.testing.assert_close(token_loss_terms(*inputs, cap=cap)[:3], reference(*inputs, cap)[:3])


@EVERY_CASE
@pytest.mark.usefixtures("chunks")
def test_gradients_are_exact_for_any_use_of_the_scores(width: int, cap: float | None, biased: bool) -> None:
    hidden, weight, bias, targets = make_inputs(width, biased)
    parameters = (hidden, weight) if bias is None else (hidden, weight, bias)

    def scores(hidden: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, ...]:
        return token_loss_terms(hidden, weight, bias, targets, cap=cap)[:3]

    assert torch.autograd.gradcheck(scores, parameters)


@EVERY_CASE
@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("part", range(3))
def test_one_score_alone_may_be_used(part: int, width: int, cap: float | None, biased: bool) -> None:
    inputs = make_inputs(width, biased)
    parameters = [tensor for tensor in inputs[:3] if tensor is not None]
    gradients, expected = (
        torch.autograd.grad(scores[part].square().sum(), parameters, allow_unused=True, materialize_grads=True)
        for scores in (token_loss_terms(*inputs, cap=cap), reference(*inputs, cap))
    )
    torch.testing.assert_close(gradients, expected)


@pytest.mark.parametrize("cap", [None, 30.0])
def test_large_logits_keep_their_precision(cap: float | None) -> None:
    """A target that is all but impossible, 1,000 nats away, or all but sure."""
    hidden, weight, _, targets = make_inputs(5, False, torch.float32, scale=20.0)
    scores = token_loss_terms(hidden, weight, None, targets, cap=cap)
    expected = reference(hidden.double(), weight.double(), None, targets, cap)
    assert cap is not None or expected.cross_entropy.max() > 500
    for score, exact in zip(scores[:3], expected[:3], strict=True):
        torch.testing.assert_close(score.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunk_size", [100, 3])
@pytest.mark.usefixtures("chunks")
def test_bf16_keeps_the_gradient_of_a_target_that_is_all_but_sure() -> None:
    hidden = torch.full((8, 5), 1.0, requires_grad=True)
    weight = torch.zeros(VOCABULARY, 5)
    weight[4] = 2.0  # a logit of 10 beside ten of 0: the target's probability is 0.9995, which is 1 in bf16
    weight.requires_grad_()
    targets = torch.full((8,), 4)
    with torch.autocast("cpu", torch.bfloat16):
        scores = token_loss_terms(hidden, weight, None, targets)
    assert {score.dtype for score in scores[:3]} == {torch.float32}
    gradients = torch.autograd.grad(scores.cross_entropy.sum(), [hidden, weight])
    expected = torch.autograd.grad(reference(hidden, weight, None, targets, None).cross_entropy.sum(), [hidden, weight])
    torch.testing.assert_close(gradients, expected, rtol=0.02, atol=0.0)


class LargestTensor(TorchDispatchMode):
    """Records the size of the largest tensor that an operation returns."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        for output in outputs if isinstance(outputs, tuple | list) else [outputs]:
            if isinstance(output, Tensor):
                self.elements = max(self.elements, output.untyped_storage().nbytes() // output.element_size())
        return outputs


@pytest.mark.parametrize("cap", [None, 3.0])
def test_all_logits_are_never_in_memory(cap: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, vocabulary, chunk_size = 256, 50, 8
    monkeypatch.setitem(token_losses.MAX_LOGITS, "cpu", chunk_size * vocabulary)
    hidden = torch.randn(tokens, 4, requires_grad=True)
    weight = torch.randn(vocabulary, 4, requires_grad=True)
    with LargestTensor() as largest:
        scores = token_loss_terms(hidden, weight, None, torch.randint(vocabulary, (tokens,)), cap=cap)
        (scores.cross_entropy + scores.mean_logit).sum().backward()
    assert largest.elements == tokens * 4  # the hidden states


@EVERY_CASE
@pytest.mark.usefixtures("chunks")
def test_a_compiled_loss_has_the_same_gradients(width: int, cap: float | None, biased: bool) -> None:
    inputs = make_inputs(width, biased)
    parameters = [tensor for tensor in inputs[:3] if tensor is not None]

    def loss(*inputs: Any) -> Tensor:
        scores = token_loss_terms(*inputs, cap=cap)
        return (scores.cross_entropy + scores.logsumexp.square() - scores.mean_logit).mean()

    compiled = torch.compile(loss, backend="aot_eager")
    gradients, expected = (torch.autograd.grad(function(*inputs), parameters) for function in (compiled, loss))
    torch.testing.assert_close(gradients, expected)
