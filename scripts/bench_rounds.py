"""Contestants measured in turn, so that other load on the machine affects all alike. Knows none of them."""

from __future__ import annotations

import multiprocessing
import os
import statistics
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Measured = TypeVar("Measured")

ROUNDS = 7


def in_turn(contestants: Mapping[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """The measurements of each contestant, A B A B, after a round that is not counted.

    Args:
        contestants: the function that measures each, by name.
        rounds: measurements of each.
    """
    for measure in contestants.values():
        measure()
    results: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, measure in contestants.items():
            results[name].append(measure())
    return results


def compare(name: str, ours: Callable[[], float], other_name: str, other: Callable[[], float]) -> None:
    """Measure two in turn; print the medians and their ratio.

    Args:
        name: of ours.
        ours: measures ours, in seconds.
        other_name: of the other.
        other: measures the other, in seconds.
    """
    own, others = in_turn({"ours": ours, "other": other}).values()
    a, b = statistics.median(own), statistics.median(others)
    ratios = sorted(x / y for x, y in zip(own, others, strict=True))
    print(f"{name} {a * 1e3:.2f} ms, {other_name} {b * 1e3:.2f} ms, ratio of medians {a / b:.2f}")
    print(f"ratio pair by pair: min {ratios[0]:.2f}, median {statistics.median(ratios):.2f}, max {ratios[-1]:.2f}")


def isolated(measure: Callable[[], Measured]) -> Measured:
    """A measurement in a fresh process, unaffected by what others set or imported.

    Args:
        measure: to call there; can be pickled.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=silence) as pool:
        return pool.submit(measure).result()


def silence() -> None:
    """Discard what contestants print."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
