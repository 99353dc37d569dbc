"""Ctrl-C and SIGTERM as a wish to stop at the next good moment. Knows nothing else."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class StopSignal:
    """Whether the user asked to stop; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.expressed = False

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Signals are remembered in here. Outside the main thread, where Python hears none, nothing is."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {one: signal.signal(one, self._remember) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def _remember(self, number: int, frame: object) -> None:
        if self.expressed:
            raise KeyboardInterrupt
        self.expressed = True
