"""The one error for what a user wrote: it names the culprit, the place and the cure. Knows nothing else."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """What a user wrote cannot be done. Commands print it, one line per mistake, and exit with 2."""


class Diverged(UserError):
    """The numbers of a run stay not finite: what the user chose does not train."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'lr'?"` for the known names closest to a name, or an empty string.

    Args:
        name: as a user wrote it.
        known: the names that there are.
    """
    by_folded = {candidate.casefold(): candidate for candidate in known}
    word = name.casefold()
    close = [candidate for candidate in by_folded if _is_short_for(candidate, word) or _is_short_for(word, candidate)]
    matches = difflib.get_close_matches(word, by_folded, n=3, cutoff=0.55)
    close += [candidate for candidate in matches if candidate not in close]
    return f"; did you mean {' or '.join(repr(by_folded[candidate]) for candidate in close[:3])}?" if close else ""


def _is_short_for(short: str, long: str) -> bool:
    """Whether `short` is how people abbreviate `long`: lr for learning_rate, eps for epsilon."""
    if not 2 <= len(short) <= 3 or len(long) <= len(short) or short[0] != long[0]:
        return False
    letters = iter(long)
    return all(letter in letters for letter in short)
