"""Every part that a Transformer can have: what it computes, and that a KV cache gives what a whole text gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

import aibig
from aibig.errors import UserError
from aibig.layers.attention.self_attention import attend
from aibig.layers.causal_conv import causal_conv
from aibig.layers.feed_forward import relu_squared

SMALL: dict[str, Any] = {"vocab_size": 20, "context": 24, "width": 16, "layers": 2, "heads": 4}
PARTS: dict[str, dict[str, Any]] = {
    "default": {},
    "learned positions": {"positions": "learned"},
    "no positions": {"positions": "none"},
    "grouped queries": {"kv_heads": 2, "head_width": 6},
    "window": {"window": 5},
    "convolutions": {"conv": 3, "embedding_norm": True, "norm": "layer", "norm_gain": False},
    "gpt2": {"norm": "layer", "bias": True, "activation": "gelu_tanh", "tied": True, "positions": "learned"},
    "swiglu": {"activation": "swiglu", "query_key_norm": False},
    "capped": {"logit_cap": 5.0, "head_std": 1.0, "activation": "gelu"},
}
SCALINGS: list[dict[str, Any]] = [
    {"rope_type": "linear", "factor": 2.0},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
]


def make(**settings: Any) -> Any:
    torch.manual_seed(0)
    model = aibig.create_model("transformer", **SMALL | settings).eval()
    for name, parameter in model.named_parameters():
        if "conv" in name or parameter.ndim == 1:  # convolutions begin as the identity, norms too
            torch.nn.init.normal_(parameter, std=0.5)
    return model


@pytest.mark.parametrize("part", PARTS)
def test_rows_in_pieces_of_their_own_length_give_what_they_give_alone(part: str) -> None:
    model = make(**PARTS[part])
    tokens, lengths = torch.randint(20, (3, 9)), torch.tensor([9, 4, 6])
    more = torch.randint(20, (3, 5))
    state = model.init_state(3)
    first, state = model(tokens, lengths, state)
    second, state = model(more[:, :4], None, state)
    third, state = model(more[:, 4:], None, state)
    for row, length in enumerate(lengths.tolist()):
        alone, _ = model(torch.cat([tokens[row, :length], more[row]])[None])
        pieces = torch.cat([first[row, :length], second[row], third[row]])
        torch.testing.assert_close(pieces, alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", PARTS)
def test_truncated_tokens_leave_no_trace_and_selected_rows_go_on(part: str) -> None:
    model = make(**PARTS[part])
    tokens, wrong = torch.randint(20, (3, 9)), torch.randint(20, (3, 4))
    whole, _ = model(tokens)
    _, state = model(tokens[:, :5], None, model.init_state(3))
    _, state = model(wrong, None, state)
    state = model.truncate_state(state, torch.tensor([5, 4, 5]))
    state = model.select_state(state, torch.tensor([2, 1]))
    again = torch.stack([tokens[2, 5:8], tokens[1, 4:7]])
    logits, _ = model(again, None, state)
    torch.testing.assert_close(logits[0], whole[2, 5:8], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits[1], whole[1, 4:7], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", PARTS)
def test_documents_do_not_attend_to_each_other(part: str) -> None:
    if "learned" in part or part == "gpt2":
        pytest.skip("learned positions count from the window's first token")
    model = make(**PARTS[part])
    tokens, document_ids = torch.randint(20, (2, 9)), torch.tensor([[0] * 4 + [1] * 5, [3] * 9])
    together, _ = model(tokens, document_ids=document_ids)
    torch.testing.assert_close(together[0, :4], model(tokens[:1, :4])[0][0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together[0, 4:], model(tokens[:1, 4:])[0][0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together[1], model(tokens[1:])[0][0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", PARTS)
def test_targets_give_the_losses_of_the_logits(part: str) -> None:
    model = make(**PARTS[part])
    tokens, targets = torch.randint(20, (2, 2, 9))
    logits, _ = model(tokens)
    scores, _ = model(tokens, targets=targets)
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(2, 9)
    torch.testing.assert_close(scores.cross_entropy, expected)
    assert part != "capped" or logits.abs().max() < 5.0


def test_rotary_positions_need_an_even_number_of_channels() -> None:
    with pytest.raises(UserError, match="head_width 5 must be even"):
        make(head_width=5)
    make(head_width=5, positions="none")(torch.zeros(1, 3, dtype=torch.long))


def test_a_full_kv_cache_says_so() -> None:
    model = make()
    with pytest.raises(UserError, match="holds 6 tokens, not 7"):
        model(torch.zeros(1, 7, dtype=torch.long), None, model.init_state(1, 6))


def test_a_window_looks_back_so_far_and_no_further() -> None:
    model = make(layers=1, window=3)
    tokens = torch.randint(19, (1, 8))
    changed = tokens.clone()
    changed[0, 2] = 19
    differ = (model(tokens)[0] != model(changed)[0]).any(2)[0].tolist()
    assert differ == [False, False, True, True, True, False, False, False]


def test_activation_checkpointing_changes_no_gradient() -> None:
    tokens, targets = torch.randint(20, (2, 2, 9))
    gradients = []
    for gradient_checkpointing in (False, True):
        model = make(gradient_checkpointing=gradient_checkpointing, conv=2).train()
        model(tokens, targets=targets)[0].cross_entropy.mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_a_tied_head_is_the_embedding_also_after_loading(tmp_path: Any) -> None:
    model = make(tied=True)
    aibig.save_model(model, tmp_path / "model")
    loaded = aibig.load_model(tmp_path / "model")
    assert loaded.head.weight is loaded.embedding.weight and torch.equal(loaded.head.weight, model.head.weight)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_scaled_positions_rotate_the_slow_channels_less(scaling: dict[str, Any]) -> None:
    plain, longer = make().rotation, make(rotary_scaling=scaling).rotation
    angles, scaled = (torch.atan2(rotation[1, :, 1], rotation[1, :, 0]) for rotation in (plain, longer))
    torch.testing.assert_close(scaled[-1], angles[-1] / scaling["factor"])
    assert scaling["rope_type"] == "linear" or torch.equal(scaled[0], angles[0])
    with pytest.raises(UserError, match="'yarn'"):
        make(rotary_scaling={"rope_type": "yarn", "factor": 2.0})
    with pytest.raises(UserError, match="'factor'"):
        make(rotary_scaling={"rope_type": "linear"})


def test_hand_written_gradients_are_right() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(relu_squared, hidden)
    inputs = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(causal_conv, (inputs, weight))
    padded = F.pad(inputs, (0, 0, 2, 0))
    expected = inputs + sum(padded[:, 2 - lag : 7 - lag] * weight[lag] for lag in range(3))
    torch.testing.assert_close(causal_conv(inputs, weight), expected)


@pytest.mark.parametrize("time", [1, 9, 64, 65, 150])
def test_causal_attention_is_torchs(time: int) -> None:
    torch.manual_seed(0)
    parts = torch.randn(3, 2, 4, time, 8, dtype=torch.float64, requires_grad=True)
    fused = F.scaled_dot_product_attention(*parts.unbind(), is_causal=True)
    mixed = attend(*parts.unbind(), None, True)
    torch.testing.assert_close(mixed, fused)
    upstream = torch.randn_like(fused)
    expected, gradient = (torch.autograd.grad(outputs, parts, upstream)[0] for outputs in (fused, mixed))
    torch.testing.assert_close(gradient, expected)
