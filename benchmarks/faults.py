"""Bring a study into each fault of its surroundings, then give its command again.

python benchmarks/faults.py                       all of them, an hour on two quiet cores
python benchmarks/faults.py --only moved full     those whose names have one of these words

The table must be that of a study that nobody disturbed. Disks are mounted in a namespace of this command alone, so that
no other process sees them. That needs root.
"""

import argparse
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import psutil
from table import print_table

NAMESPACE = "AESEARCH_FAULTS_NAMESPACE"
LONGEST = 600  # seconds after which a command hangs
STOPPED = 60  # seconds of a SIGSTOP
STUDY = '''"""What do faults come to?"""
from dataclasses import dataclass

from aesearch import Maximize, Minimize, Sprites, Study, TrainConfig
from aesearch.networks import MLP
from aesearch.objectives import BetaVAE

WEIGHT = 1.0


def weighted(value):
    return WEIGHT * value


@dataclass(frozen=True)
class Weighted(BetaVAE):
    """Weighs by a constant of the file."""

    def regulariser(self, output, target, step):
        return weighted(super().regulariser(output, target, step))


def space(trial):
    return TrainConfig(
        Sprites(resolution=16, scales=2, orientations=2, positions=8),
        MLP((16,)),
        latent_dim=trial.suggest_int("latent_dim", 2, 6),
        objective=Weighted(trial.suggest_float("beta", 0.5, 8.0, log=True)),
        replicas=2,
        epochs=12,
    )


study = Study(
    "faulty",
    space,
    (Minimize("val/mse"), Maximize("val/mig")),
    n_trials=4,
    max_concurrent=1,
    checkpoint_seconds=0,
)
'''


class Ended(NamedTuple):
    """The end of a command.

    status: None where it hung. said: its lines beside those of its progress.
    """

    status: int | None
    said: list[str]
    seconds: float


@dataclass(frozen=True)
class Place:
    """A folder with the study, and the command that runs it there."""

    folder: Path
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    limits: tuple[tuple[int, int], ...] = ()

    @contextmanager
    def started(self) -> Iterator[subprocess.Popen[str]]:
        """Start the command, in a process group of its own, as a shell does."""
        command = [sys.executable, "-m", "aesearch", "run", "faulty.py", *self.options]
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | self.environment

        def limit() -> None:
            for number, most in self.limits:
                resource.setrlimit(number, (most, most))

        with (self.folder / "said.txt").open("w") as said:
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": said, "text": True}
            place: dict[str, Any] = {"cwd": self.folder, "env": environment, "process_group": 0}
            driver = subprocess.Popen(command, preexec_fn=limit, **streams, **place)
        try:
            yield driver
        finally:
            end(driver)

    def ended(self, driver: "subprocess.Popen[str]", since: float) -> Ended:
        """Wait for the end of the command."""
        with suppress(subprocess.TimeoutExpired):
            driver.wait(timeout=LONGEST)
        status = driver.poll()
        return Ended(status, spoken((self.folder / "said.txt").read_text()), time.monotonic() - since)

    def run(self) -> Ended:
        """Run the command to its end."""
        since = time.monotonic()
        with self.started() as driver:
            return self.ended(driver, since)

    def during(self, harm: Callable[["subprocess.Popen[str]"], object], trials: int = 1) -> Ended:
        """Run the command, and do harm once so many trials have ended."""
        since = time.monotonic()
        with self.started() as driver:
            while len(self.results()) < trials and driver.poll() is None and time.monotonic() - since < LONGEST:
                time.sleep(0.02)
            harm(driver)
            return self.ended(driver, since)

    def results(self) -> dict[str, bytes]:
        """Read the results of the trials that have ended, by trial."""
        found = {}
        for path in self.folder.glob("*home*/faulty/trials/*/state.json"):
            found[path.parent.name] = path.with_name("result.json").read_bytes()
        return found

    def table(self) -> str:
        """Read the table of the report, without times."""
        path = self.folder / "reports" / "faulty" / "trials.csv"
        return pd.read_csv(path).drop(columns=["seconds"]).to_csv(index=False) if path.exists() else ""


def end(driver: "subprocess.Popen[str]") -> None:
    """End a command that hangs, with all that it started."""
    if driver.poll() is None:
        started = psutil.Process(driver.pid).children(recursive=True)
        driver.kill()
        driver.wait()
        for process in started:
            with suppress(psutil.Error):
                process.kill()


def spoken(text: str) -> list[str]:
    """Leave out the lines of progress and of a report."""
    usual = re.compile(r"faulty:\s+\d+/\d+ trials|report: |MLflow: python|\s*$")
    return [line for line in text.splitlines() if not usual.match(line)]


@contextmanager
def disk(folder: Path, size: str = "64m") -> Iterator[Path]:
    """Mount a small disk."""
    folder.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def fill(folder: Path, left: int = 0) -> None:
    """Fill a disk but for so many bytes."""
    with (folder / "filling").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    with suppress(OSError), (folder / "filling").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(512))
    os.truncate(folder / "filling", max(0, (folder / "filling").stat().st_size - left))


FAULTS: dict[str, Callable[[Place], tuple[Ended, Place]]] = {}


def fault(name: str) -> Callable[[Callable[[Place], tuple[Ended, Place]]], None]:
    """Add a function that harms a study and heals its place.

    It returns how the harmed command ended, and the place where the same command is given again.
    """

    def add(harm: Callable[[Place], tuple[Ended, Place]]) -> None:
        FAULTS[name] = harm

    return add


def limited(place: Place, limit: int, value: int, named: str, unit: int) -> tuple[Ended, Place]:
    """Run with a limit that is too low, then with the one that the error names."""
    ended = replace(place, limits=((limit, value),)).run()
    found = re.search(named, " ".join(ended.said))
    return ended, replace(place, limits=((limit, unit * int(found[1])),)) if found else place


@fault("ulimit -n 64, then what is asked for")
def _(place: Place) -> tuple[Ended, Place]:
    return limited(place, resource.RLIMIT_NOFILE, 64, r"ulimit -n (\d+)", 1)


@fault("ulimit -v of 4 GB, then what is asked for")
def _(place: Place) -> tuple[Ended, Place]:
    return limited(place, resource.RLIMIT_AS, 4 * 10**9, r"allowed (\d+) GB", 10**9)


def stored(place: Place) -> Place:
    """Put MLflow's store into a folder of its own."""
    return replace(place, options=(*place.options, "--tracking-uri", "sqlite:///store/mlflow.db"))


@fault("MLflow's disk full from the start")
def _(place: Place) -> tuple[Ended, Place]:
    place = stored(place)
    with disk(place.folder / "store", "200k"):
        ended = place.run()
    return ended, place


@fault("MLflow's disk full while the study runs")
def _(place: Place) -> tuple[Ended, Place]:
    place = stored(place)
    with disk(place.folder / "store"):
        ended = place.during(lambda _: fill(place.folder / "store"))
    return ended, place


@fault("mlflow.db deleted while the study runs")
def _(place: Place) -> tuple[Ended, Place]:
    return place.during(lambda _: (place.folder / "mlflow.db").unlink()), place


@fault("mlflow.db deleted between two runs")
def _(place: Place) -> tuple[Ended, Place]:
    place.during(interrupt)
    (place.folder / "mlflow.db").unlink()
    return place.run(), place


def interrupt(driver: "subprocess.Popen[str]") -> None:
    driver.send_signal(signal.SIGINT)


@fault(f"SIGSTOP of the driver for {STOPPED} s")
def _(place: Place) -> tuple[Ended, Place]:
    def stop(driver: "subprocess.Popen[str]") -> None:
        driver.send_signal(signal.SIGSTOP)
        time.sleep(STOPPED)
        driver.send_signal(signal.SIGCONT)

    return place.during(stop), place


@fault(f"SIGSTOP of all its processes for {STOPPED} s, epoch_seconds=20")
def _(place: Place) -> tuple[Ended, Place]:
    file = place.folder / "faulty.py"
    file.write_text(file.read_text().replace("checkpoint_seconds=0", "checkpoint_seconds=0, epoch_seconds=20"))

    def stop(driver: "subprocess.Popen[str]") -> None:
        os.killpg(driver.pid, signal.SIGSTOP)
        time.sleep(STOPPED)
        os.killpg(driver.pid, signal.SIGCONT)

    return place.during(stop), place


@fault("home read-only from the start")
def _(place: Place) -> tuple[Ended, Place]:
    with disk(place.folder / "home") as home:
        mount("-o", "remount,ro", str(home))
        ended = place.run()
    return ended, place


@contextmanager
def kept(folder: Path) -> Iterator[Path]:
    """Mount a disk at ``folder``, whose files stay there afterwards."""
    copy = folder.with_name(f"{folder.name}.kept")
    with disk(folder):
        yield folder
        subprocess.run(["cp", "-a", folder, copy], check=True)
    folder.rmdir()
    copy.rename(folder)


@fault("home read-only between two runs")
def _(place: Place) -> tuple[Ended, Place]:
    with kept(place.folder / "home") as home:
        place.during(interrupt)
        mount("-o", "remount,ro", str(home))
        ended = place.run()
        mount("-o", "remount,rw", str(home))
        place.run()
    return ended, place


@fault("home full while the study runs")
def _(place: Place) -> tuple[Ended, Place]:
    with kept(place.folder / "home") as home:
        ended = place.during(lambda _: fill(home))
        (home / "filling").unlink()
    return ended, place


@fault("data cache read-only, with the data")
def _(place: Place) -> tuple[Ended, Place]:
    data = str(place.folder.parent / "data")
    mount("--bind", data, data)
    mount("-o", "remount,bind,ro", data)
    try:
        return place.run(), place
    finally:
        subprocess.run(["umount", "-l", data], check=True)


@fault("data cache read-only, without the data")
def _(place: Place) -> tuple[Ended, Place]:
    with disk(place.folder / "cache") as cache:
        mount("-o", "remount,ro", str(cache))
        return replace(place, options=("--home", "home", "--data", str(cache))).run(), place


@fault("home moved away while the study runs, then back")
def _(place: Place) -> tuple[Ended, Place]:
    home, away = place.folder / "home", place.folder / "away-home"
    ended = place.during(lambda _: home.rename(away))
    with suppress(FileNotFoundError):
        # What was made anew in the meantime is no study.
        subprocess.run(["rm", "-r", "home"], cwd=place.folder, check=False, stderr=subprocess.DEVNULL)
    away.rename(home)
    return ended, place


@fault("home moved between two runs")
def _(place: Place) -> tuple[Ended, Place]:
    place.during(interrupt)
    (place.folder / "home").rename(place.folder / "other-home")
    place = replace(place, options=("--home", "other-home", *place.options[2:]))
    return place.run(), place


@fault("home gone between two runs: begun anew")
def _(place: Place) -> tuple[Ended, Place]:
    place.during(interrupt)
    (place.folder / "home").rename(place.folder / "gone")
    return place.run(), place


@fault("/tmp full from the start")
def _(place: Place) -> tuple[Ended, Place]:
    with disk(place.folder / "tmp") as tmp:
        fill(tmp)
        return replace(place, environment={"TMPDIR": str(tmp)}).run(), place


@fault("/tmp full while the study runs")
def _(place: Place) -> tuple[Ended, Place]:
    with disk(place.folder / "tmp") as tmp:
        return replace(place, environment={"TMPDIR": str(tmp)}).during(lambda _: fill(tmp)), place


CLOCK = """import time
from pathlib import Path

whole, shift = time.time, Path({shift!r})
time.time = lambda: whole() + float(shift.read_text() or 0)
"""


def jumping(place: Place, by: str) -> tuple[Ended, Place]:
    """Let time.time jump in all processes of a study, and not the machine's clock."""
    shift, code = place.folder / "shift", place.folder / "clock"
    shift.write_text("0")
    code.mkdir()
    (code / "sitecustomize.py").write_text(CLOCK.format(shift=str(shift)))
    path = os.pathsep.join(filter(None, [str(code), os.environ.get("PYTHONPATH")]))
    return replace(place, environment={"PYTHONPATH": path}).during(lambda _: shift.write_text(by)), place


@fault("clock of Python jumps a day forward while the study runs")
def _(place: Place) -> tuple[Ended, Place]:
    return jumping(place, "86400")


@fault("clock of Python jumps a day back while the study runs")
def _(place: Place) -> tuple[Ended, Place]:
    return jumping(place, "-86400")


def edited(place: Place, before: str, after: str) -> tuple[Ended, Place]:
    """Change the file between two runs; what is refused is undone."""
    place.during(interrupt)
    file = place.folder / "faulty.py"
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))
    ended = place.run()
    if ended.status:
        file.write_text(text)
    return ended, place


@fault("file edited between two runs: a comment and a docstring")
def _(place: Place) -> tuple[Ended, Place]:
    return edited(place, '    """Weighs by a constant of the file."""', '    """Weighs."""  # by 1')


@fault("file edited between two runs: a constant that is trained with")
def _(place: Place) -> tuple[Ended, Place]:
    return edited(place, "WEIGHT = 1.0", "WEIGHT = 2.0")


@fault("file edited between two runs: a function that is trained with")
def _(place: Place) -> tuple[Ended, Place]:
    return edited(place, "return WEIGHT * value", "return WEIGHT * value + 1")


@fault("file edited between two runs: a field of the configuration")
def _(place: Place) -> tuple[Ended, Place]:
    return edited(place, "MLP((16,))", "MLP((17,))")


def begin(folder: Path) -> Place:
    folder.mkdir()
    (folder / "faulty.py").write_text(STUDY)
    return Place(folder, ("--home", "home", "--data", str(folder.parent / "data")))


def judge(name: str, folder: Path, whole: str) -> list[str]:
    """Do a fault to a study, and make its row of the table."""
    place = begin(folder)
    ended, place = FAULTS[name](place)
    before = place.results()
    again = place.run()
    lost = sum(place.results().get(key) != result for key, result in before.items())
    equal = "yes" if place.table() == whole else "NO"
    said = " / ".join(line.replace(str(folder), ".") for line in ended.said[:3])[:700]
    if len(ended.said) > 3:
        said += f" / ... ({len(ended.said)} lines, {sum(map(len, ended.said)):,} characters)"
    hung = "hung" if ended.status is None else str(ended.status)
    row = [name, said, hung, f"{ended.seconds:.0f}", str(again.status), f"{equal}, {lost} lost"]
    print(" | ".join(row), "|| again:", again.said[:3], flush=True)
    return row


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        root = Path(name)
        whole = begin(root / "whole")
        done = whole.run()
        if done.status:
            raise RuntimeError(f"the undisturbed study ended with {done}")
        chosen = [one for one in FAULTS if not OPTIONS.only or any(word in one for word in OPTIONS.only)]
        rows = [judge(one, root / str(number), whole.table()) for number, one in enumerate(chosen)]
    print_table(["fault", "said", "status", "seconds", "status of the same command", "table equal, trials lost"], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[])
    OPTIONS = parser.parse_args()
    if NAMESPACE not in os.environ:
        os.environ[NAMESPACE] = "1"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])
    main()
