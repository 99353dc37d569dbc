"""Ctrl-C and SIGTERM as a request to stop after the current update. Knows no trainer."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class StopSignal:
    """Whether a signal asked the run to stop. A second one raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.received = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Records SIGINT and SIGTERM inside the `with` block.

        Does nothing outside the main thread, where Python delivers no signals.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: object) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = True
