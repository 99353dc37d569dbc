"""Micro-batches of different weight add up to the gradient of the one big batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from contract_tasks import Masked
from torch import Tensor

from aibig.training.logs.run_log import read_lines
from aibig.training.optimizers import builders as optimizer
from aibig.training.trainer import Trainer

UPDATES = 5


def big_batch(clip_norm: float | None = None) -> dict[str, Tensor]:
    """The weights after updates of one batch each, in plain torch."""
    return by_hand(Masked.mean_error, clip_norm)


def mean_of_means(parts: int) -> dict[str, Tensor]:
    """The weights after updates with the mean of the parts' means, which is wrong."""

    def error(model: torch.nn.Module, rows: tuple[Tensor, ...]) -> Tensor:
        pieces = zip(*(column.chunk(parts) for column in rows), strict=True)
        return torch.stack([Masked.mean_error(model, piece) for piece in pieces]).mean()

    return by_hand(error)


def by_hand(error: Callable[..., Tensor], clip_norm: float | None = None) -> dict[str, Tensor]:
    """The weights after SGD on `error` of model and rows."""
    model = Masked.make_model()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for update in range(UPDATES):
        sgd.zero_grad()
        error(model, Masked.rows(update)).backward()
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        sgd.step()
    return model.state_dict()


def assert_same_weights(weights: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal up to the rounding of float64."""
    torch.testing.assert_close(dict(weights), dict(expected), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("accumulate", [1, 2, 4, 8])
@pytest.mark.parametrize("clip_norm", [None, 0.3, 300.0])
def test_micro_batches_make_the_big_batch(accumulate: int, clip_norm: float | None, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"max_samples": UPDATES * Masked.ROWS, "log_every": 1}
    trainer = Trainer(optimizer.sgd(lr=0.1), accumulate=accumulate, clip_norm=clip_norm, **settings)
    task = Masked(trainer.context)
    result = trainer.fit(task, tmp_path)
    assert result.progress.counts == {"samples": UPDATES * Masked.ROWS}
    assert_same_weights(task.model.state_dict(), big_batch(clip_norm))
    first = next(line["loss"] for line in read_lines(tmp_path) if line["kind"] == "train")
    assert first == pytest.approx(Masked.mean_error(Masked.make_model(), Masked.rows(0)).item(), rel=1e-6)


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_the_mean_of_means_would_be_noticed(parts: int) -> None:
    with pytest.raises(AssertionError, match="not close"):
        assert_same_weights(mean_of_means(parts), big_batch())
    pairs = zip(mean_of_means(parts).values(), big_batch().values(), strict=True)
    assert max((wrong - right).abs().max() for wrong, right in pairs) > 0.1
