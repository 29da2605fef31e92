"""Write what workers hand over into the records of a study's trials.

The keeper is an actor on the driver's node that ends with the driver. It holds no state: a restarted one goes on. A
message that comes twice, as Ray repeats one whose answer was lost, changes nothing the second time; one of an earlier
attempt at the trial, or of an earlier driver's workers, is refused.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from aesearch.records.record import Record
from aesearch.rights import make_private
from aesearch.search.state import session_of
from aesearch.search.values import Left, Place

CHUNK = 16 * 1024**2  # bytes of a file in one message, which must fit into Ray's object store
INCOMING = "incoming"


class SupersededError(RuntimeError):
    """A message of an attempt that another attempt or driver has replaced."""


class Keeper:
    """Writer of a study's records, for as long as its driver's session lasts.

    folder: of the study's state. session: of the driver, which driver.json names.
    """

    def __init__(self, folder: Path, session: str) -> None:
        self.folder = folder
        self.session = session
        # A cluster's processes have the umask that it was started with.
        make_private()

    def take_up(self, place: Place, pid: int, host: str) -> Left:
        """Begin another attempt at a trial by the process ``pid`` of ``host``.

        Raises SupersededError.
        """
        self._check_session()
        record = self._record(place)
        attempt = record.attempt(pid, host)
        shutil.rmtree(record.folder / INCOMING, ignore_errors=True)
        return Left(
            attempt,
            tuple(record.history()),
            tuple(sorted(path.name for path in record.checkpoints.glob("epoch-*"))),
            record.read("failure.json").get("reason", ""),
            Record(place.trial(self.folder / "trials")).read("result.json"),
        )

    def fetch(self, place: Place, name: str, offset: int) -> bytes:
        """Read a chunk of a file of the whole trial.

        name: path below the trial's folder. offset: in bytes.
        """
        with (place.trial(self.folder / "trials") / name).open("rb") as file:
            file.seek(offset)
            return file.read(CHUNK)

    def add_epoch(self, place: Place, attempt: int, line: Mapping[str, Any]) -> None:
        """Append an epoch to the trial's history. Raises SupersededError, OSError."""
        record = self._current(place, attempt)
        known = record.history()
        if not known or known[-1]["epoch"] < line["epoch"]:
            record.add_line(line)

    def receive(self, place: Place, attempt: int, name: str, offset: int, content: bytes) -> None:
        """Write a chunk of a file that a later message puts in its place.

        Raises SupersededError, OSError.
        """
        path = self._current(place, attempt).folder / INCOMING / name
        path.parent.mkdir(exist_ok=True)
        try:
            with path.open("r+b" if offset else "wb") as file:
                file.seek(offset)
                file.write(content)
        except OSError:
            # Half a file must not take the room that the rest of the study needs.
            path.unlink(missing_ok=True)
            raise

    def keep_checkpoint(self, place: Place, attempt: int, names: Sequence[str], kept: Sequence[str]) -> None:
        """Put the received files of a checkpoint in their place, in their order.

        kept: names of all checkpoint files that stay. Raises SupersededError, OSError.
        """
        record = self._current(place, attempt)
        record.checkpoints.mkdir(exist_ok=True)
        for name in names:
            record.place(INCOMING, name, record.checkpoints)
        for path in record.checkpoints.iterdir():
            if path.name not in kept:
                path.unlink()

    def finish(self, place: Place, attempt: int, names: Sequence[str], result: Mapping[str, Any]) -> None:
        """Put the received model in its place, and write the result.

        Raises SupersededError, OSError.
        """
        record = self._current(place, attempt)
        for name in names:
            record.place(INCOMING, name, record.artifacts)
        record.finish(dict(result))
        shutil.rmtree(record.folder / INCOMING, ignore_errors=True)

    def join(self, place: Place, attempt: int, names: Sequence[str], result: Mapping[str, Any]) -> None:
        """Make the received replicas the trial's own.

        It is idempotent: done again after an interruption, it comes to the same. Raises SupersededError, OSError.
        """
        part, whole = self._current(place, attempt), Record(place.trial(self.folder / "trials"))
        for name in names:
            part.place(INCOMING, name, whole.artifacts)
        whole.join_history(part, place.start)
        for remark in part.remarks():
            whole.remark(f"replicas {place.start} to {place.stop - 1}: {remark}")
        # They were of fewer replicas.
        (whole.folder / "scores.json").unlink(missing_ok=True)
        # Last: a trial has the replicas that its result has.
        whole.finish(dict(result))

    def fail(self, place: Place, attempt: int, reason: str, details: str) -> None:
        """Note why a trial failed. Raises SupersededError, OSError."""
        self._current(place, attempt).fail_for(reason, details)

    def remark(self, place: Place, attempt: int, text: str) -> None:
        """Note what a person should know of the trial. Raises SupersededError, OSError."""
        self._current(place, attempt).remark(text)

    def _record(self, place: Place) -> Record:
        return Record(place.folder(self.folder / "trials"))

    def _current(self, place: Place, attempt: int) -> Record:
        self._check_session()
        record = self._record(place)
        if record.read("worker.json").get("attempts") != attempt:
            raise SupersededError(f"attempt {attempt} at trial {place.key} is over")
        return record

    def _check_session(self) -> None:
        if session_of(self.folder) != self.session:
            raise SupersededError(f"another driver has taken over the study in {self.folder}")


@contextmanager
def keeping(folder: Path) -> Iterator[str]:
    """Run a keeper for the study in ``folder`` beside this driver.

    Yields the name by which workers find it.
    """
    session = session_of(folder)
    name = f"keeper-{session}"
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
    keeper: Any = ray.remote(Keeper).options(name=name, **options).remote(folder, session)
    try:
        yield name
    finally:
        # Where Ray itself is lost, the keeper is too.
        with suppress(RayError):
            ray.kill(keeper)
