"""Contestants measured in turn, so that what else the machine does falls on all alike. Knows none of them."""

from __future__ import annotations

import multiprocessing
import os
import statistics
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")

ROUNDS = 7


def in_turn(contestants: Mapping[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """What each contestant gives in each round, A B A B; a first round is not counted."""
    for measure in contestants.values():
        measure()
    results: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, measure in contestants.items():
            results[name].append(measure())
    return results


def compare(name: str, ours: Callable[[], float], other_name: str, other: Callable[[], float]) -> None:
    """Run the two in turn and print the medians and their ratio."""
    own, others = in_turn({"ours": ours, "other": other}).values()
    a, b = statistics.median(own), statistics.median(others)
    ratios = sorted(x / y for x, y in zip(own, others, strict=True))
    print(f"{name} {a * 1e3:.2f} ms, {other_name} {b * 1e3:.2f} ms, ratio of medians {a / b:.2f}")
    print(f"ratio pair by pair: min {ratios[0]:.2f}, median {statistics.median(ratios):.2f}, max {ratios[-1]:.2f}")


def isolated(measure: Callable[[], Given]) -> Given:
    """What `measure` gives in a fresh process: no peer profits, or suffers, from what another has set or imported."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=silence) as pool:
        return pool.submit(measure).result()


def silence() -> None:
    """Loops may print; it is part of what they cost, but not of the table."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
