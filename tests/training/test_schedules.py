"""Schedules at points where their formulas say what they must be."""

from __future__ import annotations

import pytest

from aibig.training.optimizers.schedules import constant, cosine, linear, warmup_stable_decay


def test_constant() -> None:
    assert constant()(0, 0.0) == constant()(9, 1.0) == 1.0


def test_warmup_is_linear() -> None:
    factor = constant(warmup_steps=4)
    assert [factor(step, 0.0) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_linear_and_cosine_end_where_they_should() -> None:
    assert [linear(final_fraction=0.2)(0, progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.6, 0.2])
    assert [cosine(final_fraction=0.2)(0, progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.6, 0.2])
    assert cosine(final_fraction=0.0)(0, 0.25) == pytest.approx(0.853553, abs=1e-6)


def test_warmup_stable_decay_is_flat_until_it_falls() -> None:
    factor = warmup_stable_decay(decay_fraction=0.2)
    assert [factor(0, progress) for progress in (0.0, 0.5, 0.8, 0.9, 1.0)] == pytest.approx([1.0, 1.0, 1.0, 0.5, 0.0])
    assert warmup_stable_decay(decay_fraction=0.0)(0, 1.0) == 1.0
