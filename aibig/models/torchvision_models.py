"""torchvision's classification models, with their first and last layers fitted to images and classes. Knows no data.

B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from aibig.config.settings import Fraction, PositiveInt
from aibig.errors import UserError, nearest
from aibig.layers.utils.weight_files import SUFFIXES, read_weights
from aibig.models.torchvision_table import architecture, rows
from aibig.vision import import_torchvision

AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # heads that only training from scratch uses
OLD_NAMES = (  # of tensors in files on torchvision's server, which its builders rename as they load them
    (r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),
    (r"mlp\.linear_1\.", "mlp.0."),
    (r"mlp\.linear_2\.", "mlp.3."),
)


def __getattr__(name: str) -> Callable[..., nn.Module]:
    """The builder of the model `name`, such as "resnet18" (PEP 562): a table's row names it like any class."""
    if name in rows():
        return partial(create, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def create(
    name: str,
    /,
    *,
    num_classes: PositiveInt = 1000,
    in_channels: PositiveInt = 3,
    image_size: PositiveInt | None = None,
    dropout: Fraction | None = None,
    weights: str | None = None,
) -> nn.Module:
    """torchvision's model `name`: (B, C, H, W) -> (B, K), without auxiliary heads.

    Pretrained weights are adapted where they don't fit. First convolution: for one channel its kernels are summed over
    their channels, so that a grey image gives what it gave as a colour image of three equal channels; for other numbers
    they are repeated and scaled by old/new channels. Positions (ViT): interpolated. Head for other classes: newly
    initialised. The model's `adapted`, a list of lines, says what was.

    Inception v3 and GoogLeNet take images normalised as ImageNet's are, and transform those of three channels to
    the scale that they were trained with, with pretrained weights or without.

    Args:
        name: of the model, such as "resnet18".
        num_classes: number of classes.
        in_channels: channels of the image.
        image_size: height and width of the images, for models that are built for one size (ViT and MaxViT; null: 224);
            for other models it is only compared with the smallest that they take.
        dropout: fraction dropped, for models that have dropout; null: torchvision's own.
        weights: a .safetensors, .pt or .pth file with a state_dict of the same architecture, or the name of
            torchvision's own ("DEFAULT", "IMAGENET1K_V1"), which torchvision downloads to torch's hub folder unless
            it is there; null: randomly initialised.

    Raises:
        UserError: torchvision can't be imported, the model has no such setting, the images are too small for it, or
            the weights can't be loaded.
    """
    model = _build(name, num_classes, in_channels, image_size, dropout)
    if weights is not None:
        model.adapted = [_load_weights(name, model, weights)]  # type: ignore[assignment]
    return model


def _build(name: str, classes: int, channels: int, image_size: int | None, dropout: float | None) -> nn.Module:
    facts = architecture(name)
    settings: dict[str, Any] = {"num_classes": classes, **facts.settings}
    if dropout is not None:
        if not facts.takes_dropout:
            raise UserError(f"{name} has no dropout; leave that setting out")
        settings["dropout"] = dropout
    if image_size is not None:
        if image_size < facts.smallest_image:
            raise UserError(
                f"{name} takes images of at least {facts.smallest_image}x{facts.smallest_image} pixels, "
                f"not {image_size}x{image_size}; enlarge them, or choose another model"
            )
        if facts.size_setting:
            square = (image_size, image_size)
            settings[facts.size_setting] = square if facts.size_setting == "input_size" else image_size
    try:
        model: nn.Module = import_torchvision().models.get_model(name, weights=None, **settings)
    except (ValueError, AssertionError) as error:  # its windows or patches don't divide that size
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"{name} can't be built for images of {image_size}x{image_size} pixels: {reason}") from None
    if hasattr(model, "transform_input"):  # else a saved model would not know what its weights need
        model.transform_input = channels == 3  # type: ignore[assignment]
    if name.startswith("mnasnet"):  # its own method refuses weights without a version, which safetensors doesn't keep
        model._load_from_state_dict = MethodType(nn.Module._load_from_state_dict, model)  # type: ignore[method-assign]
    path, conv = first_conv(model)
    if conv.in_channels != channels:
        model.set_submodule(path, _with_channels(conv, channels))
    return model


def first_conv(model: nn.Module) -> tuple[str, nn.Conv2d]:
    """The path and the layer of the convolution that takes the image.

    Args:
        model: one of torchvision's.
    """
    return next((path, module) for path, module in model.named_modules() if isinstance(module, nn.Conv2d))


@torch.no_grad()
def _with_channels(old: nn.Conv2d, channels: int) -> nn.Conv2d:
    """A new convolution like `old`, with the standard deviation that `old` would have with so many channels."""
    new = nn.Conv2d(
        *(channels, old.out_channels, old.kernel_size, old.stride, old.padding),  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    new.weight.normal_().mul_(old.weight.std() * (old.in_channels / channels) ** 0.5)
    if new.bias is not None and old.bias is not None:
        new.bias.copy_(old.bias)
    return new


# ---------------------------------------------------------------- pretrained weights


@torch.no_grad()
def _load_weights(name: str, model: nn.Module, source: str) -> str:
    """Load the weights that `source` names. Returns a line that says how many tensors, and what was adapted."""
    parameters, state_dict = model.state_dict(), _read_state_dict(name, source)
    total = len(parameters)
    changes = _adapt(name, model, state_dict, parameters)
    _check_keys(name, source, state_dict, parameters)
    loaded = [key for key in parameters if key in state_dict]
    for key in loaded:
        parameters[key].copy_(state_dict[key])
    return "; ".join([f"{name}: {len(loaded)} of {total} tensors loaded from {source}", *changes])


def _read_state_dict(name: str, source: str) -> dict[str, Tensor]:
    """The tensors of a file, or of torchvision's own weights, under the names that they have now."""
    models = import_torchvision().models
    if Path(source).suffix in SUFFIXES:
        state_dict = read_weights(source)
    else:
        known = list(models.get_model_weights(name).__members__)
        if source not in known:
            hint = nearest(source, known) or f"; there are: {', '.join(known)}"
            raise UserError(
                f"weights: {source!r} is neither a file ({', '.join(SUFFIXES)}) nor weights of {name}{hint}"
            )
        try:
            state_dict = models.get_model(name, weights=source).state_dict()
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"weights: {source} of {name} can't be downloaded ({error}); where there is no network, give a file"
            ) from None
    for pattern, new in OLD_NAMES:
        state_dict = {re.sub(pattern, new, key): value for key, value in state_dict.items()}
    return {key: value for key, value in state_dict.items() if not key.startswith(AUXILIARY)}


def _adapt(name: str, model: nn.Module, state_dict: dict[str, Tensor], parameters: dict[str, Tensor]) -> list[str]:
    """Fit the first and last layers of `state_dict` to the model's `parameters`, in place. Returns what was changed.

    A head for other classes is removed from both.
    """
    changes = []

    def differs(key: str) -> bool:
        return key in state_dict and key in parameters and state_dict[key].shape != parameters[key].shape

    first, head = f"{first_conv(model)[0]}.weight", rows()[name].head
    if differs(first) and state_dict[first].ndim == 4:
        before, after = state_dict[first].shape[1], parameters[first].shape[1]
        state_dict[first] = adapt_channels(state_dict[first], after)
        changes.append(f"{first} adapted to {after} instead of {before} channels")
    positions = "encoder.pos_embedding"
    if differs(positions):
        interpolate = import_torchvision().models.vision_transformer.interpolate_embeddings
        state_dict.update(interpolate(model.image_size, model.patch_size, state_dict))
        changes.append(f"{positions} interpolated to {model.image_size}x{model.image_size} pixels")
    if differs(f"{head}.weight"):
        before, after = len(state_dict[f"{head}.weight"]), len(parameters[f"{head}.weight"])
        changes.append(f"{head} newly initialised for {after} instead of {before} classes")
        for kind in ("weight", "bias"):
            state_dict.pop(f"{head}.{kind}", None)
            parameters.pop(f"{head}.{kind}", None)
    return changes


def adapt_channels(kernel: Tensor, channels: int) -> Tensor:
    """A kernel for another number of input channels, with the same response to an image of equal channels.

    For numbers that are no multiple of the old one, the same but for how much each channel counts.

    Args:
        kernel: weight of a convolution, (out, old channels, h, w).
        channels: number of input channels that it shall have.

    Returns:
        The new weight, (out, channels, h, w).
    """
    old = kernel.shape[1]
    if channels == 1:
        return kernel.sum(1, keepdim=True)
    return kernel[:, torch.arange(channels) % old] * (old / channels)


def _check_keys(name: str, source: str, state_dict: dict[str, Tensor], parameters: dict[str, Tensor]) -> None:
    """Raise UserError, naming the first difference, unless names and shapes are the model's."""
    cure = f"give a state_dict of {name}"
    missing = [key for key in parameters if key not in state_dict and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state_dict if key not in parameters]
    if missing or unexpected:
        key, difference = (missing[0], "missing") if missing else (unexpected[0], "unexpected")
        more = len(missing) + len(unexpected) - 1
        raise UserError(f"{source}: is not of {name}: {difference} key {key!r} ({more} other differences); {cure}")
    for key, value in state_dict.items():
        if value.shape != parameters[key].shape:
            shapes = f"{tuple(value.shape)}, not {tuple(parameters[key].shape)}"
            raise UserError(f"{source}: is not of {name}: {key!r} has the shape {shapes}; {cure}")
