"""Start or join a Ray, and share its resources among trials."""

import gc
import logging
import math
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from ray._private import ray_constants
from ray._private.utils import get_num_cpus

from aesearch.errors import UserError
from aesearch.rights import OTHERS, private_files
from aesearch.search.ray_watch import watched
from aesearch.search.surroundings import check_open_files, check_temporary, ray_home
from aesearch.study import Study

LEAST_ON_CLUSTER = 16  # trials at once or waiting
OBJECT_STORE_BYTES = 128 * 1024**2  # on a local Ray: trials share data through the file system


@dataclass(frozen=True)
class Where:
    """A place to run a study.

    address: of Ray; None for $RAY_ADDRESS, else for a Ray of its own. data: folder of the data sets. verbose: whether
    Ray may print. alone: whether trials run in this process, one at a time, without any Ray. lost: called from another
    thread with the folder of Ray's session, the name of a process that a Ray of its own has lost, and whether it was
    asked to end; None where nothing is to be done.
    """

    address: str | None
    data: Path
    verbose: bool = False
    alone: bool = False
    lost: Callable[[Path, str, bool], object] | None = None


@contextmanager
def connected(where: Where, study: Study) -> Any:
    """Connect to Ray, and start one where there is none.

    Raises UserError where it cannot be reached, or where limits of this process are too low to start one.
    """
    # Without an address Ray would join any cluster that was started on this machine.
    address = where.address or os.environ.get("RAY_ADDRESS", "local")
    options: dict[str, Any] = {}
    if not where.verbose:
        options |= {"log_to_driver": False, "logging_level": logging.CRITICAL}
        for name in ("ray", "ray.tune"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    started, lost = not ray.is_initialized(), None
    if started:
        if address == "local":
            cpus = int(get_num_cpus())
            check_open_files(cpus, min(study.max_concurrent or cpus, int(cpus / study.cpus)))
            check_temporary()
        try:
            _probe(address)
            with handler_kept(signal.SIGTERM):
                if address == "local":
                    session = start_local(**options)
                    lost = where.lost and partial(where.lost, session)
                else:
                    ray.init(address, **options)
        except UserError:
            raise
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(f"Ray cannot be reached at {address}: {' '.join(str(error).split())[:300]}") from error
    try:
        with watched(lost):
            yield
    finally:
        if started:
            with handler_kept(signal.SIGTERM), nothing_collected():
                ray.shutdown()


def start_local(**options: Any) -> Path:
    """Start a Ray that only this user of this machine can use.

    Returns the folder of its session.
    options: more of ``ray.init``.
    Raises UserError where the folder of its files is not this user's own.
    """
    # Without this variable Ray wants a token of who connects; with it, it might not.
    os.environ.pop("RAY_AUTH_MODE", None)
    _protect_token()
    with private_files(), _on_loopback():
        started: Any = ray.init(
            "local",
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=str(ray_folder()),
            **options,
        )
    return Path(started.address_info["session_dir"])


def ray_folder() -> Path:
    """Return the folder of a local Ray's sockets and logs, made if it is missing.

    Ray's own choice, /tmp/ray, is open to every user of the machine, who could put sockets of theirs there.
    Raises UserError where the folder is not this user's own.
    """
    folder = ray_home()
    with suppress(FileExistsError):
        folder.mkdir(0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & OTHERS:
        raise UserError(
            f"Ray's folder must be this user's own, with mode 0700, but {folder} is not; remove it, or set RAY_TMPDIR "
            "to another folder"
        )
    # Ray opens the one that it is given to every user.
    return folder / "ray"


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Let a Ray that starts meanwhile listen on the loopback interface alone.

    It does where it believes that no other machine can join it, as on macOS. An address of loopback that is given to it
    is replaced by that of the network.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _protect_token() -> None:
    """Let no other user read Ray's token, which it makes with mode 0644."""
    token = Path.home() / ".ray" / "auth_token"
    # Missing, or not this user's to change.
    with suppress(OSError):
        token.chmod(token.stat().st_mode & ~OTHERS)


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


def resources(study: Study, remaining: int, where: Where) -> tuple[float, float, int]:
    """Share the resources of Ray, or of this machine, among trials.

    Returns the CPUs and the GPUs of a trial, and the number of trials at once. Raises UserError where a trial would
    wait for ever.
    """
    if where.alone:
        return study.shares(1, os.cpu_count() or 1, torch.cuda.device_count())
    cluster = ray.cluster_resources()
    cpus, devices = cluster.get("CPU", 0), cluster.get("GPU", 0)
    # A cluster may add nodes for trials that wait, so a trial may need more than it has now.
    if where.address in (None, "local"):
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
