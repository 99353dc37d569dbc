"""Fingerprints of data, to check at a resume that they are those of the run's start. Knows tensors only."""

from __future__ import annotations

import hashlib

from torch import Tensor

from aibig.errors import UserError


def fingerprint(*tensors: Tensor) -> str:
    """A short text that depends on every number of the tensors, and on their shapes.

    Args:
        tensors: on any device.
    """
    digest = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        digest.update(repr((tuple(tensor.shape), tensor.dtype)).encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def check_fingerprint(now: str, before: str, culprit: str = "data: are not those") -> None:
    """Check that data are those of the run's start.

    Args:
        now: fingerprint of what there is.
        before: fingerprint at the run's start.
        culprit: how the error begins: what differs.

    Raises:
        UserError: the fingerprints differ.
    """
    if now != before:
        raise UserError(f"{culprit} that the run began with, so it can't go on; put back what was there, or begin anew")
