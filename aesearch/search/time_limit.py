"""Limit the time that a process may run without coming to the end of something."""

import faulthandler
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LAST_SECONDS = 60.0  # that a process which hangs gets to say why, before it is ended from outside Python
PART_SECONDS = 1.0  # the most that a stop of the process adds to the time that counts


@contextmanager
def limited(seconds: float, end: Callable[[], object]) -> Iterator[None]:
    """Call ``end`` from another thread once the process has run for so long.

    It is not called where the context ends before. Time in which the process is stopped, as by Ctrl-Z, does not count.
    Code that never lets another thread of Python run is ended with the process, ``LAST_SECONDS`` later.
    """
    over = threading.Event()

    def watch() -> None:
        left = seconds
        while left > 0:
            faulthandler.dump_traceback_later(left + LAST_SECONDS, exit=True)
            # A clock would count on while the process is stopped.
            part = min(left, PART_SECONDS)
            if over.wait(part):
                return
            left -= part
        end()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        faulthandler.cancel_dump_traceback_later()
