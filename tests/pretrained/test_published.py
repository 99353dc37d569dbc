"""Published models: what transformers writes is loaded, and computes the same here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from published_gpt2 import gpt2_folder, tensors
from safetensors.torch import load_file, save_file

import aibig
from aibig.config.registry import models
from aibig.models.gpt2 import Gpt2
from aibig.pretrained.formats.gpt2 import GPT2

VOCABULARY, LENGTH = 50, 24
SCALINGS: dict[str, dict[str, Any] | None] = {
    "default": None,
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {
        **{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
        "original_max_position_embeddings": 16,
    },
}


@pytest.fixture(scope="module")
def theirs() -> Any:
    """The library that the published models come from."""
    return pytest.importorskip("transformers", reason="needs transformers, an extra")


def gpt2(theirs: Any, kind: str = "GPT2LMHeadModel", **settings: Any) -> Any:
    tiny: dict[str, Any] = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": LENGTH}
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return published(theirs, kind, theirs.GPT2Config(vocab_size=VOCABULARY, **tiny, **ends, **settings))


def llama(theirs: Any, kind: str = "LlamaForCausalLM", **settings: Any) -> Any:
    tiny: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 44, "num_hidden_layers": 2}
    tiny |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0}
    return published(theirs, kind, theirs.LlamaConfig(vocab_size=VOCABULARY, **tiny | settings))


def bert(theirs: Any, kind: str = "BertForMaskedLM", **settings: Any) -> Any:
    tiny: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    tiny |= {"intermediate_size": 40, "max_position_embeddings": LENGTH}
    return published(theirs, kind, theirs.BertConfig(vocab_size=VOCABULARY, **tiny, **settings))


def published(theirs: Any, kind: str, config: Any) -> Any:
    """A model with weights far from zero, so that every part of it matters."""
    torch.manual_seed(0)
    model = getattr(theirs, kind)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter) * 0.1
    return model


def saved(model: Any, folder: Path, **settings: Any) -> Path:
    model.save_pretrained(folder, **settings)
    return folder


def padded() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens, lengths, and the mask that means the same there."""
    torch.manual_seed(1)
    tokens, lengths = torch.randint(1, VOCABULARY, (3, LENGTH)), torch.tensor([LENGTH, 7, 1])
    mask = torch.arange(LENGTH) < lengths.unsqueeze(1)
    return tokens.masked_fill(~mask, 0), lengths, mask.long()


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- the same numbers


@torch.no_grad()
@pytest.mark.parametrize(("kind", "scaling"), [("gpt2", ""), *(("llama", name) for name in SCALINGS)])
def test_a_causal_model_gives_the_same_logits_with_and_without_a_kv_cache(
    theirs: Any, tmp_path: Path, kind: str, scaling: str
) -> None:
    other = gpt2(theirs) if kind == "gpt2" else llama(theirs, rope_scaling=SCALINGS[scaling])
    model = aibig.load_model(saved(other, tmp_path / "published"))
    assert not model.training and model.registered["name"] == kind
    tokens, lengths, mask = padded()
    expected = other(tokens, attention_mask=mask).logits
    ours, _ = model(tokens, lengths)
    close(ours[mask.bool()], expected[mask.bool()])
    state = model.init_state(1)
    pieces = [model(piece, None, state)[0] for piece in (tokens[:1, :5], tokens[:1, 5:6], tokens[:1, 6:])]
    close(torch.cat(pieces, 1), expected[:1])


@torch.no_grad()
@pytest.mark.parametrize(
    "settings",
    [
        {"head_dim": 16},
        {"tie_word_embeddings": True},
        {"num_key_value_heads": 4, "rms_norm_eps": 1e-2},
    ],
)
def test_llama_with_other_settings(theirs: Any, tmp_path: Path, settings: dict[str, Any]) -> None:
    other = llama(theirs, **settings)
    model = aibig.load_model(saved(other, tmp_path))
    tokens, _, _ = padded()
    close(model(tokens)[0], other(tokens).logits)


@torch.no_grad()
def test_gpt2_with_other_settings(theirs: Any, tmp_path: Path) -> None:
    other = gpt2(theirs, n_inner=24, activation_function="gelu", layer_norm_epsilon=1e-2)
    model = aibig.load_model(saved(other, tmp_path))
    tokens, _, _ = padded()
    close(model(tokens)[0], other(tokens).logits)


@torch.no_grad()
@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_bert_gives_the_same_scores_of_tokens(theirs: Any, tmp_path: Path, activation: str) -> None:
    other = bert(theirs, hidden_act=activation)
    model = aibig.load_model(saved(other, tmp_path))
    tokens, lengths, mask = padded()
    types = (torch.arange(LENGTH) > 3).long().expand_as(tokens)
    expected = other(tokens, attention_mask=mask, token_type_ids=types).logits
    close(model(tokens, lengths, types)[0][mask.bool()], expected[mask.bool()])
    close(model(tokens)[0], other(tokens).logits)


@torch.no_grad()
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (gpt2, "GPT2ForSequenceClassification"),
        (llama, "LlamaForSequenceClassification"),
        (bert, "BertForSequenceClassification"),
    ],
)
@pytest.mark.parametrize("classes", [2, 3])
def test_classifiers_give_the_same_scores(theirs: Any, tmp_path: Path, make: Any, kind: str, classes: int) -> None:
    other = make(theirs, kind, num_labels=classes)
    model = aibig.load_model(saved(other, tmp_path))
    tokens, lengths, mask = padded()
    close(model(tokens, lengths), other(tokens, attention_mask=mask).logits)


@torch.no_grad()
def test_several_files_old_files_and_half_precision(theirs: Any, tmp_path: Path) -> None:
    other = llama(theirs)
    tokens, _, _ = padded()
    several = saved(other, tmp_path / "several", max_shard_size="10KB")
    assert (several / "model.safetensors.index.json").is_file() and not (several / "model.safetensors").exists()
    close(aibig.load_model(several)(tokens)[0], other(tokens).logits)
    old = saved(other, tmp_path / "old")
    (old / "model.safetensors").unlink()
    torch.save(other.state_dict(), old / "pytorch_model.bin")
    close(aibig.load_model(old)(tokens)[0], other(tokens).logits)
    half = saved(other.bfloat16(), tmp_path / "half")
    model = aibig.load_model(half)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    close(model(tokens)[0], type(other).from_pretrained(half, dtype=torch.float32)(tokens).logits)


@torch.no_grad()
def test_norms_may_have_their_names_of_tensorflow(theirs: Any, tmp_path: Path) -> None:
    other = bert(theirs)
    folder = saved(other, tmp_path)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    state_dict = load_file(folder / "model.safetensors")
    for new, name in old.items():
        state_dict = {key.replace(new, name): tensor for key, tensor in state_dict.items()}
    save_file(state_dict, folder / "model.safetensors")
    tokens, _, _ = padded()
    close(aibig.load_model(folder)(tokens)[0], other(tokens).logits)


@torch.no_grad()
def test_a_loaded_model_can_be_saved_and_loaded_again(theirs: Any, tmp_path: Path) -> None:
    model = aibig.load_model(saved(gpt2(theirs), tmp_path / "published"))
    assert model.head.weight is model.embedding.weight
    again = aibig.load_model(aibig.save_model(model, tmp_path / "ours"))
    tokens, _, _ = padded()
    assert torch.equal(model(tokens)[0], again(tokens)[0])


# ---------------------------------------------------------------- without that library


def test_every_published_tensor_is_loaded(tmp_path: Path) -> None:
    published, model = tensors(), aibig.load_model(gpt2_folder(tmp_path / "published"))
    loaded = model.state_dict()
    assert (
        torch.equal(loaded["embedding.weight"], published["wte.weight"]) and model.head.weight is model.embedding.weight
    )
    assert torch.equal(loaded["position_embedding.weight"], published["wpe.weight"])
    assert torch.equal(loaded["blocks.1.feed_forward.up_proj.weight"], published["h.1.mlp.c_fc.weight"].T)
    assert torch.equal(loaded["blocks.0.attention.qkv_proj.weight"], published["h.0.attn.c_attn.weight"].T)
    assert torch.equal(loaded["blocks.1.attention_norm.weight"], published["h.1.ln_1.weight"])
    assert torch.equal(loaded["norm.bias"], published["ln_f.bias"])
    assert model(torch.tensor([[1, 2, 3]]))[0].shape == (1, 3, 7)


@pytest.fixture
def mirrored() -> Iterator[None]:
    """A registered model that is published like GPT-2, but with other keys and names."""

    def settings(config: Mapping[str, Any]) -> dict[str, Any]:
        return GPT2.settings({key.removeprefix("my_"): value for key, value in config.items()})

    layers = {layer: f"my_{name}" for layer, name in GPT2.layers.items() if isinstance(name, str)}
    my_format = replace(GPT2, settings=settings, layers=layers, prefix="")
    aibig.register_model("mirrored", family="language", model_type="mirrored", published=my_format)(Gpt2)
    yield
    models._registered.clear()
    models._entries = None


def test_a_package_can_add_a_format(mirrored: None, tmp_path: Path) -> None:
    folder = gpt2_folder(tmp_path / "published", {f"my_{name}": tensor for name, tensor in tensors().items()})
    config = json.loads((folder / "config.json").read_text())
    renamed = {f"my_{key}": value for key, value in config.items()} | {"model_type": "mirrored"}
    (folder / "config.json").write_text(json.dumps(renamed))
    model = aibig.load_model(folder)
    expected = aibig.load_model(gpt2_folder(tmp_path / "gpt2"))
    assert model.registered["name"] == "mirrored"
    assert torch.equal(model(torch.tensor([[1, 2, 3]]))[0], expected(torch.tensor([[1, 2, 3]]))[0])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model_type": "gpt3"}, "config.json: model_type 'gpt3' is not supported; did you mean 'gpt2'?"),
        (
            {"n_embd": "wide"},
            "config.json: width of model 'gpt2' must be a whole number, at least 1 or null, not 'wide'",
        ),
        ({"activation_function": "relu"}, r"config.json: activation 'relu' is not supported \(supported: gelu"),
        ({"scale_attn_weights": False}, "config.json: scale_attn_weights False is not supported"),
        ({"n_layer": 3}, "has no tensor for 'blocks.2"),
        ({"n_embd": 16}, r"'embedding.weight' has the shape \(7, 8\), but the model's has \(7, 16\)"),
        (
            {"weights": {**tensors(), "h.0.ln_1.weight": torch.ones(5)}},
            r"'blocks.0.attention_norm.weight' has the shape \(5,\), but the model's has \(8,\)",
        ),
    ],
)
def test_contradictions_are_named_in_a_line(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    folder = gpt2_folder(tmp_path / "published", **change)
    with pytest.raises(aibig.UserError, match=complaint) as caught:
        aibig.load_model(folder)
    assert str(folder) in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("config.json", "{", "config.json: does not describe a published model"),
        (
            "config.json",
            '{"model_type": "gpt2"}',
            r"config.json: is damaged, or not of model_type 'gpt2' \(KeyError\('n_embd'\)\)",
        ),
        ("config.json", "[]", "config.json: does not describe a published model"),
        ("model.safetensors", "abc", "model.safetensors: can't be read as weights"),
        ("model.safetensors", None, "published: holds no weights; there should be a model.safetensors"),
        ("model.safetensors.index.json", "{}", "model.safetensors.index.json: is damaged"),
        (
            "model.safetensors.index.json",
            '{"weight_map": {"wte.weight": "../x.safetensors"}}',
            "names '../x.safetensors', which is no file beside it",
        ),
        (
            "model.safetensors.index.json",
            '{"weight_map": {"wte.weight": "one.safetensors"}}',
            "one.safetensors: no such file of weights",
        ),
        (
            "model.safetensors.index.json",
            '{"weight_map": {"wte.weight": "part.safetensors"}}',
            "part.safetensors: has no 'wte.weight', which model.safetensors.index.json lists",
        ),
    ],
)
def test_damaged_files_are_named_in_a_line(tmp_path: Path, file: str, content: str | None, complaint: str) -> None:
    folder = gpt2_folder(tmp_path / "published")
    if content is None or file.endswith("index.json"):
        (folder / "model.safetensors").unlink()
        save_file({"wpe.weight": torch.ones(2)}, folder / "part.safetensors")
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(aibig.UserError, match=complaint) as caught:
        aibig.load_model(folder)
    assert len(str(caught.value).splitlines()) == 1
