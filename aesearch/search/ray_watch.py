"""Notice that a local Ray has lost one of its processes.

Without its raylet a driver would wait for ever. Without its GCS Ray ends the driver's process after a minute, and
Python does not get out of Ray's calls before. So who is told of the loss has to end the process, or to begin it anew.
"""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil

VITAL = ("raylet", "gcs_server")
GRACE = 10.0  # seconds that a driver has to end by itself where its Ray was asked to end, as it may be, too
SECONDS = 0.25  # between two looks at them: Ray's own agents print pages about it after a second


@contextmanager
def watched(lost: Callable[[str, bool], object] | None) -> Iterator[None]:
    """Call ``lost`` from another thread when the raylet or the GCS ends.

    They are those that this process has started. All other processes of that Ray are ended before. ``lost`` is told
    which one ended, and whether it was asked to, as by SIGTERM; None watches nothing.
    """
    if lost is None:
        yield
        return
    over = threading.Event()
    children = psutil.Process().children()
    # A process that began anew still has the dead ones of before as children.
    vital = [(child.name(), child) for child in children if child.name() in VITAL and _alive(child)]
    thread = threading.Thread(target=_watch, args=(vital, over, lost), daemon=True, name="ray-watch")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _watch(vital: list[tuple[str, psutil.Process]], over: threading.Event, lost: Callable[[str, bool], object]) -> None:
    known: set[psutil.Process] = set()
    for look in itertools.count():
        if over.wait(SECONDS):
            return
        if look % 8 == 0:
            # Workers are children of the raylet: without it, nothing tells whose they are.
            known = {process for process in known if _alive(process)} | set(psutil.Process().children(recursive=True))
        ended = [(name, process) for name, process in vital if not _alive(process)]
        if not ended:
            continue
        # Killed, or failed, by a signal: else they were asked to end, or followed the one that was.
        asked = all((_exit_code(process) or 0) >= 0 for _, process in ended)
        if asked and over.wait(GRACE):
            return
        for other in known:
            with suppress(psutil.Error):
                other.kill()
        psutil.wait_procs(known, timeout=5)
        lost(ended[0][0], asked)
        return


def _exit_code(process: psutil.Process) -> int | None:
    """Read the exit status of a child that has ended; None where it was read before."""
    try:
        code: int | None = process.wait(timeout=1)
    except psutil.Error:
        return None
    return code


def _alive(process: psutil.Process) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
