"""Whether data are those that a run began with."""

from __future__ import annotations

import hashlib

from torch import Tensor

from aibig.errors import UserError


def fingerprint(*tensors: Tensor) -> str:
    """A short text that depends on every number of `tensors`, and on their shapes."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        digest.update(repr((tuple(tensor.shape), tensor.dtype)).encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def check_fingerprint(now: str, before: str, culprit: str = "data: are not those") -> None:
    """Raise UserError if the data, or what `culprit` names, are not the same."""
    if now != before:
        raise UserError(f"{culprit} that the run began with, so it can't go on; put back what was there, or begin anew")
