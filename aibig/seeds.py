"""Derives independent seeds from one, so that randomness is a function of where it is used. Knows no torch."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part and their order, the same on every machine.

    `derive_seed(seed, "order", epoch)` needs no stored state: the epoch is enough to derive it again.

    Args:
        parts: a seed, and what tells this use of it from others.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
