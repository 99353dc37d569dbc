"""The one error for what a user wrote: it names the culprit, the place and the cure. Knows nothing else."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """What a user wrote cannot be done. Commands print it, one line per mistake, and exit with 2."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'lr'?"` for the known names closest to `name`, or an empty string."""
    by_folded = {one.casefold(): one for one in known}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=3, cutoff=0.55)
    close += [one for one in by_folded if one not in close and is_part(name.casefold(), one)]
    if not close:
        return ""
    return f"; did you mean {' or '.join(repr(by_folded[one]) for one in close[:3])}?"


def is_part(name: str, other: str) -> bool:
    """Whether one name stands inside the other (`learning_rate_lr` and `lr`)."""
    return min(len(name), len(other)) >= 2 and (name in other or other in name)
