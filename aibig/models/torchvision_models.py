"""torchvision's classification models, their ends made to fit the images and the classes. Knows no data.

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
from aibig.layers.weight_files import SUFFIXES, read_weights
from aibig.models.torchvision_table import architecture, rows
from aibig.vision import import_torchvision

AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # heads that only training from scratch used
OLD_NAMES = (  # of tensors in files on torchvision's server, which its builders rename as they read them
    (r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),
    (r"mlp\.linear_1\.", "mlp.0."),
    (r"mlp\.linear_2\.", "mlp.3."),
)


def __getattr__(name: str) -> Callable[..., nn.Module]:
    """What makes the model `name`, "resnet18" say (PEP 562): a table's row names it like any class."""
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

    num_classes: K. in_channels: C. image_size: H and W, where a model is built for one size (ViT and MaxViT, 224 by
    default); elsewhere it is only compared with the smallest that the model can take. dropout: where the model has
    one; None is torchvision's own. weights: a .safetensors, .pt or .pth file with a state_dict of the same
    architecture, or the name of torchvision's own ("DEFAULT", "IMAGENET1K_V1"), which torchvision then downloads
    into torch's hub folder, unless it is there already.

    What of pretrained weights does not fit is adapted. The first convolution: for one channel its kernels are summed
    over their channels, so that a grey image gives what it gave as a colour image of three equal channels; for other
    numbers they are repeated and scaled by old/new channels. Positions (ViT): interpolated. A head for other classes
    is newly initialised. `adapted`, a list of lines, says on the model what was.

    Inception v3 and GoogLeNet take images normalised as ImageNet's are, and transform those of three channels to
    the scale that they were trained with, with pretrained weights or without.

    Raises UserError if torchvision cannot be imported, for settings that the model does not have, for images that are
    too small for it, and for weights that can't be had or are another architecture's.
    """
    model = _build(name, num_classes, in_channels, image_size, dropout)
    if weights is not None:
        model.adapted = [_take_weights(name, model, weights)]  # type: ignore[assignment]
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
                f"not {image_size}x{image_size}; enlarge them, or take another model"
            )
        if facts.sized:
            settings[facts.sized] = image_size if facts.sized == "image_size" else (image_size, image_size)
    try:
        model: nn.Module = import_torchvision().models.get_model(name, weights=None, **settings)
    except (ValueError, AssertionError) as error:  # of a size that its windows or patches don't divide
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"{name} can't be made for images of {image_size}x{image_size} pixels: {reason}") from None
    if hasattr(model, "transform_input"):  # else a saved model would not know what its weights need
        model.transform_input = channels == 3  # type: ignore[assignment]
    if name.startswith("mnasnet"):  # its own refuses weights without a version, which safetensors don't keep
        model._load_from_state_dict = MethodType(nn.Module._load_from_state_dict, model)  # type: ignore[method-assign]
    path, convolution = first_convolution(model)
    if convolution.in_channels != channels:
        model.set_submodule(path, _with_channels(convolution, channels))
    return model


def first_convolution(model: nn.Module) -> tuple[str, nn.Conv2d]:
    """The layer that takes the image, with its path."""
    return next((path, one) for path, one in model.named_modules() if isinstance(one, nn.Conv2d))


@torch.no_grad()
def _with_channels(old: nn.Conv2d, channels: int) -> nn.Conv2d:
    """A new convolution like `old`, of the spread that `old` would have with so many inputs."""
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
def _take_weights(name: str, model: nn.Module, source: str) -> str:
    """Put the weights that `source` means into `model`. Returns what came of it, in a line."""
    own, given = model.state_dict(), _pretrained(name, source)
    total = len(own)
    changes = _adapt(name, model, given, own)
    _check_fit(name, source, given, own)
    for key, value in own.items():
        if key in given:
            value.copy_(given[key])
    taken = sum(key in given for key in own)
    return f"{name}: {taken} of {total} tensors taken from {source}{''.join(f'; {one}' for one in changes)}"


def _pretrained(name: str, source: str) -> dict[str, Tensor]:
    """The tensors of a file, or of torchvision's own weights, under the names that they have now."""
    models = import_torchvision().models
    if Path(source).suffix in SUFFIXES:
        found = read_weights(source)
    else:
        known = list(models.get_model_weights(name).__members__)
        if source not in known:
            hint = nearest(source, known) or f"; there are: {', '.join(known)}"
            raise UserError(
                f"weights: {source!r} is neither a file ({', '.join(SUFFIXES)}) nor weights of {name}{hint}"
            )
        try:
            found = models.get_model(name, weights=source).state_dict()
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"weights: {source} of {name} could not be had ({error}); where there is no network, give a file"
            ) from None
    for pattern, new in OLD_NAMES:
        found = {re.sub(pattern, new, key): value for key, value in found.items()}
    return {key: value for key, value in found.items() if not key.startswith(AUXILIARY)}


def _adapt(name: str, model: nn.Module, given: dict[str, Tensor], own: dict[str, Tensor]) -> list[str]:
    """Make the ends of `given` fit `own`, in place. Returns what was changed, a few words each."""
    changes = []

    def differs(key: str) -> bool:
        return key in given and key in own and given[key].shape != own[key].shape

    first, head = f"{first_convolution(model)[0]}.weight", rows()[name].head
    if differs(first) and given[first].ndim == 4:
        before, after = given[first].shape[1], own[first].shape[1]
        given[first] = spread_over_channels(given[first], after)
        changes.append(f"{first} made for {after} instead of {before} channels")
    positions = "encoder.pos_embedding"
    if differs(positions):
        interpolate = import_torchvision().models.vision_transformer.interpolate_embeddings
        given.update(interpolate(model.image_size, model.patch_size, given))
        changes.append(f"{positions} interpolated to {model.image_size}x{model.image_size} pixels")
    if differs(f"{head}.weight"):
        before, after = len(given[f"{head}.weight"]), len(own[f"{head}.weight"])
        changes.append(f"{head} newly initialised for {after} instead of {before} classes")
        for part in ("weight", "bias"):
            given.pop(f"{head}.{part}", None)
            own.pop(f"{head}.{part}", None)
    return changes


def spread_over_channels(kernel: Tensor, channels: int) -> Tensor:
    """(out, old channels, h, w) -> (out, channels, h, w), of the same response to an image of equal channels.

    For numbers that are no multiple of the old one, the same but for how much each channel counts.
    """
    old = kernel.shape[1]
    if channels == 1:
        return kernel.sum(1, keepdim=True)
    return kernel[:, torch.arange(channels) % old] * (old / channels)


def _check_fit(name: str, source: str, given: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    """Raise UserError, naming the first difference, unless `given` fits but for what was adapted."""
    cure = f"give a state_dict of {name}"
    missing = [key for key in own if key not in given and not key.endswith("num_batches_tracked")]
    strange = [key for key in given if key not in own]
    if missing or strange:
        key = (missing or strange)[0]
        wrong = f"has no {key!r}" if missing else f"has {key!r}, which {name} has not"
        more = len(missing) + len(strange) - 1
        raise UserError(f"{source}: is not of {name}: it {wrong} ({more} other differences); {cure}")
    for key, value in given.items():
        if value.shape != own[key].shape:
            shapes = f"{tuple(value.shape)} and not {tuple(own[key].shape)}"
            raise UserError(f"{source}: is not of {name}: its {key!r} is {shapes}; {cure}")
