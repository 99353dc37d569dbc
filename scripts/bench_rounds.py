"""Contestants measured in turn, so that what else the machine does falls on all alike. Knows none of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping

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
