"""A small published GPT-2, written as transformers writes it, for tests of loading it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

CONFIG = {"model_type": "gpt2", "vocab_size": 7, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 6}


def tensors(vocab_size: int = 7) -> dict[str, torch.Tensor]:
    """The tensors of a published GPT-2 of two blocks, named and transposed as transformers does."""
    torch.manual_seed(0)
    sizes: dict[str, tuple[int, ...]] = {"attn.c_attn": (8, 24), "attn.c_proj": (8, 8)}
    sizes |= {"mlp.c_fc": (8, 32), "mlp.c_proj": (32, 8), "ln_1": (8,), "ln_2": (8,)}
    layers = {f"h.{block}.{name}": size for block in (0, 1) for name, size in sizes.items()} | {"ln_f": (8,)}
    parameters = {f"{name}.weight": torch.randn(size) for name, size in layers.items()}
    parameters |= {f"{name}.bias": torch.randn(size[-1]) for name, size in layers.items()}
    return parameters | {
        "wte.weight": torch.randn(vocab_size, 8),
        "wpe.weight": torch.randn(6, 8),
        "h.0.attn.bias": torch.ones(6, 6),
    }


def gpt2_folder(folder: Path, weights: dict[str, torch.Tensor] | None = None, **changes: Any) -> Path:
    """That model in a folder, with `changes` in its config.json."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    save_file(weights or tensors(changes.get("vocab_size", 7)), folder / "model.safetensors")
    return folder
