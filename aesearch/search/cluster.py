"""Start or join a Ray, and share its resources among trials."""

import gc
import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray._private.utils import get_num_cpus

from aesearch.errors import UserError
from aesearch.search.ray_watch import watched
from aesearch.search.surroundings import check_open_files, check_temporary
from aesearch.study import Study

LEAST_ON_CLUSTER = 16  # trials at once or waiting
OBJECT_STORE_BYTES = 128 * 1024**2  # on a local Ray: trials share data through the file system


@dataclass(frozen=True)
class Where:
    """A place to run a study.

    address: of Ray; None for $RAY_ADDRESS, else for a Ray of its own. data: folder of the data sets. verbose: whether
    Ray may print. lost: called from another thread with the folder of Ray's session, the name of a process that a Ray
    of its own has lost, and whether it was asked to end; None where nothing is to be done.
    """

    address: str | None
    data: Path
    verbose: bool = False
    lost: Callable[[Path, str, bool], object] | None = None


@contextmanager
def connected(where: Where, study: Study) -> Any:
    """Connect to Ray, and start one where there is none.

    Raises UserError where it cannot be reached, or where limits of this process are too low to start one.
    """
    # Without an address Ray would join any cluster that was started on this machine.
    options: dict[str, Any] = {"address": where.address or os.environ.get("RAY_ADDRESS", "local")}
    if options["address"] == "local":
        options |= {"object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    if not where.verbose:
        options |= {"log_to_driver": False, "logging_level": logging.CRITICAL}
        for name in ("ray", "ray.tune"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    started, lost = not ray.is_initialized(), None
    if started:
        if options["address"] == "local":
            cpus = int(get_num_cpus())
            check_open_files(cpus, min(study.max_concurrent or cpus, int(cpus / study.cpus)))
            check_temporary()
        try:
            _probe(options["address"])
            with handler_kept(signal.SIGTERM):
                started_ray: Any = ray.init(**options)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(
                f"Ray cannot be reached at {options['address']}: {' '.join(str(error).split())[:300]}"
            ) from error
        if where.lost and options["address"] == "local":
            lost = partial(where.lost, Path(started_ray.address_info["session_dir"]))
    try:
        with watched(lost):
            yield
    finally:
        if started:
            with handler_kept(signal.SIGTERM), nothing_collected():
                ray.shutdown()


def _probe(address: str) -> None:
    """Raise OSError where nothing listens at HOST:PORT.

    Ray itself would try for minutes.
    """
    host, _, port = address.rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=5).close()


@contextmanager
def nothing_collected() -> Iterator[None]:
    """Collect garbage now, and not while Ray shuts down.

    Ray's handles crash the process when another thread collects them during shutdown.
    """
    gc.disable()
    gc.collect()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def handler_kept(number: signal.Signals) -> Iterator[None]:
    """Put a signal's handler back.

    Ray takes SIGTERM when it starts and leaves no handler when it stops. Tune leaves its own for SIGINT, which would
    swallow the next Ctrl-C.
    """
    before = signal.getsignal(number)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(number, before)


@contextmanager
def sigterm_as_sigint() -> Any:
    """Let SIGTERM stop a study as cleanly as SIGINT.

    Tune handles SIGINT by returning from fit().
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def resources(study: Study, remaining: int, grows: bool) -> tuple[float, float, int]:
    """Share Ray's resources among trials.

    Returns the CPUs and the GPUs of a trial, and the number of trials at once.

    grows: whether the cluster adds nodes for trials that wait, so that a trial may need more than it has now.
    Raises UserError where a trial would wait for ever.
    """
    cluster = ray.cluster_resources()
    cpus, devices = cluster.get("CPU", 0), cluster.get("GPU", 0)
    if not grows:
        return study.shares(remaining, cpus, devices)
    # A sampler learns nothing from trials that wait, so only some do, for a cluster to see that it may grow.
    fits = int(min(cpus / study.cpus, devices / study.gpus if study.gpus else math.inf))
    concurrent = min(remaining, study.max_concurrent or max(fits, LEAST_ON_CLUSTER))
    return study.cpus, study.gpu_share(devices, concurrent), concurrent


def threads(cpus: float) -> int:
    """Count the threads of a trial.

    They are its CPUs, but no more than $OMP_NUM_THREADS where that is set.
    """
    most = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return max(1, min(int(cpus), int(most) if most.isdigit() else int(cpus)))
