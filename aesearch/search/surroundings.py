"""Check what a study needs of its machine: a folder, room to write, limits."""

import errno
import os
import resource
import shutil
import tempfile
from pathlib import Path

from aesearch.errors import UserError

NO_ROOM = os.strerror(errno.ENOSPC)
LEAST_ROOM = 64 * 1024  # bytes that the ledger needs to say how a trial ended
LEAST_TEMPORARY = 16 * 1024**2  # bytes; a Ray writes one in its first minutes
# Open files of the raylet, which has most: 49 and 3 for each worker, measured with 1 to 16 of them.
FILES, FILES_OF_WORKER = 64, 4
# Of the driver, which maps most: 6.1 GB were measured on two cores without a GPU.
LEAST_ADDRESS_SPACE = 8 * 10**9
MOST_PATH = 35  # bytes: the path of a socket has 103 at the most, and Ray adds 68 of its own
GOES_ON = "and the same command goes on with what is missing"


def check_folder(folder: Path, broken: str = "") -> None:
    """Raise UserError where a study can no longer write below ``folder``.

    broken: text of the error that broke the search; it may say that a disk was full then.
    """
    if not (folder / "driver.json").exists():
        raise UserError(
            f"the folder of a study must stay where it is, but {folder} was moved or removed; put it back, or name its "
            f"new place with --home, {GOES_ON}"
        )
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        raise UserError(f"a study must be able to write, but {folder} is read-only; mend that, {GOES_ON}")
    temporary = ray_home().parent
    for place in (folder, temporary):
        if shutil.disk_usage(place).free < LEAST_ROOM:
            raise _full(place)
    if NO_ROOM in broken:
        raise _full(folder if str(temporary) not in broken else temporary)


def _full(place: Path) -> UserError:
    return UserError(f"a study must have room to write, but the disk of {place} is full; free some, {GOES_ON}")


def ray_home() -> Path:
    """Name the folder that a local Ray of this user has its files in.

    Python's choice alone would not do: it passes over a disk that is full, and knows nothing of RAY_TMPDIR.
    """
    chosen = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or tempfile.gettempdir())
    folder = chosen / f"ray-{os.getuid()}"
    return folder if chosen.is_dir() and len(str(folder)) <= MOST_PATH else Path("/tmp") / folder.name


def check_temporary() -> None:
    """Raise UserError where the disk of Ray's temporary folder is full.

    Ray would not start, and not say so.
    """
    folder = ray_home().parent
    free = shutil.disk_usage(folder).free
    if free < LEAST_TEMPORARY:
        raise UserError(
            f"Ray must have {LEAST_TEMPORARY // 2**20} MiB to write, but the disk of {folder} has {free // 2**20} MiB; "
            "free some, or name a folder on another disk in $TMPDIR"
        )


def check_open_files(cpus: int, trials: int) -> None:
    """Raise UserError where a Ray may not open the files that its workers need.

    It would wait for ever.

    cpus: of the Ray, which begins with as many idle workers. trials: at once. The keeper is one more.
    """
    needed = FILES + FILES_OF_WORKER * (cpus + trials + 1)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Ray raises the soft limit to the hard one by itself.
    if most != resource.RLIM_INFINITY and most < needed:
        raise UserError(
            f"a process must be allowed {needed} open files for trials on {cpus} CPUs, {trials} at once, but this one "
            f"is allowed {most}; raise the limit: ulimit -n {needed}"
        )


def check_address_space() -> None:
    """Raise UserError where PyTorch and Ray cannot be mapped.

    They would abort without a reason.
    """
    most = min(limit % 2**64 for limit in resource.getrlimit(resource.RLIMIT_AS))
    if most < LEAST_ADDRESS_SPACE:
        raise UserError(
            f"a process must be allowed {LEAST_ADDRESS_SPACE / 1e9:.0f} GB of address space, and more with a GPU, but "
            f"this one is allowed {most / 1e9:.1f} GB; raise the limit: ulimit -v unlimited"
        )
