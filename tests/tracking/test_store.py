"""A SQLite store is whole or not there: made by many at once, by one that is killed. What is no store is refused."""

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from helpers.disks import disk, fill, remount
from helpers.stores import new_store
from helpers.tracked import INFO, track, write_trial
from mlflow import MlflowClient

from aesearch.errors import UserError
from aesearch.tracking import Tracker, create_store, read_study, send_all
from aesearch.tracking.sender import Sender


def making(uri: str) -> subprocess.Popen[bytes]:
    """A process that makes the store when it is told to."""
    code = f"from aesearch.tracking import create_store; print('ready', flush=True); input(); create_store({uri!r})"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], **pipes)


def tell(process: subprocess.Popen[bytes]) -> None:
    process.stdin.write(b"\n")
    process.stdin.flush()


def test_four_processes_make_a_store_at_once(missing_uri, in_tmp):
    uri = missing_uri
    started = [making(uri) for _ in range(4)]
    assert [process.stdout.readline() for process in started] == [b"ready\n"] * 4
    for process in started:
        tell(process)
    assert [(process.communicate()[1], process.returncode) for process in started] == [(b"", 0)] * 4
    MlflowClient(uri).create_experiment("it works")
    assert not list(in_tmp.glob("*.tmp"))


def test_a_store_that_is_there_is_left_alone(missing_uri, in_tmp):
    uri = missing_uri
    create_store(uri)
    before = (in_tmp / "mlflow.db").read_bytes()
    create_store(uri)
    assert (in_tmp / "mlflow.db").read_bytes() == before


def test_a_store_whose_making_is_killed_is_made_again(missing_uri, in_tmp):
    uri = missing_uri
    rng = random.Random(0)
    left = 0
    for _ in range(3):
        with making(uri) as process:
            tell(process)
            deadline = time.monotonic() + 30
            while not list(in_tmp.glob("*.tmp")):
                assert time.monotonic() < deadline
                time.sleep(0.005)
            # Of the one to three seconds that the migrations take.
            time.sleep(rng.uniform(0, 0.8))
            process.send_signal(signal.SIGKILL)
        left += not (in_tmp / "mlflow.db").exists()
    assert left, "it was never killed in the making"
    create_store(uri)
    MlflowClient(uri).create_experiment("it works")
    assert sorted(path.name for path in in_tmp.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that has a study, beside the study's records; its artifacts lie there too."""
    folder = tmp_path_factory.mktemp("sound")
    write_trial(folder / "records", 0, "COMPLETE")
    write_trial(folder / "records", 1, "PRUNED", epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        track(new_store(folder / "mlflow.db"), folder / "records", [0, 1])
    return folder / "mlflow.db"


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def newer(path: Path) -> None:
    """As the next MLflow leaves it."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("update alembic_version set version_num = 'f00000000001'")


def of_another(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("create table mine (a)")


def of_optuna(path: Path) -> None:
    """Such as the ledger of a study, whose tables alembic keeps too."""
    path.unlink()
    optuna.create_study(storage=f"sqlite:///{path}")


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), r"is damaged \(.*malformed\): "),
        (lambda path: path.write_bytes(path.read_bytes()[:50]), r"is damaged \("),
        (lambda path: path.write_text("no database" * 100), r"is damaged \(file is not a database\): restore it; "),
        (a_folder, "is a folder"),
        (newer, r"was made by a newer MLflow \(its schema is f00000000001\): install that one; "),
        (of_another, "holds the tables of another program; another store gets all that the records of a study hold"),
        (of_optuna, "holds the tables of another program; "),
    ],
)
def test_a_file_that_is_no_store_is_refused_and_kept(sound, in_tmp, damage, what):
    """Oracle: its bytes before and after; the study's table from the sound store, put back, and from another one."""
    path = in_tmp / "mlflow.db"
    uri, records = f"sqlite:///{path}", sound.parent / "records"
    shutil.copy(sound, path)
    damage(path)
    before = path.read_bytes() if path.is_file() else None
    attempts = [
        lambda: Tracker(uri, INFO, records).open(),
        lambda: send_all(uri, INFO, records),
        lambda: read_study(uri, "s"),
    ]
    for attempt in attempts:
        with pytest.raises(UserError, match=what) as refused:
            attempt()
        assert "\n" not in str(refused.value)
        assert str(path) in str(refused.value)
    assert (path.read_bytes() if path.is_file() else None) == before
    if path.is_dir():
        path.rmdir()
    shutil.copy(sound, path)
    assert send_all(uri, INFO, records).trials == 0
    assert read_study(uri, "s").trials["state"].tolist() == ["COMPLETE", "PRUNED"]


def test_a_lost_store_is_made_again_from_the_records(sound, in_tmp):
    """An empty file is a store that is not there yet: filled in place, it would be lost if that were killed."""
    (in_tmp / "mlflow.db").touch()
    empty = (in_tmp / "mlflow.db").stat().st_ino
    again, once = f"sqlite:///{in_tmp}/mlflow.db", f"sqlite:///{sound}"
    assert send_all(again, INFO, sound.parent / "records").trials == 2
    tables = [read_study(uri, "s").trials.to_csv() for uri in (again, once)]
    assert tables[0] == tables[1]
    assert (in_tmp / "mlflow.db").stat().st_ino != empty


def test_a_store_that_another_process_holds_is_no_damage(sound, in_tmp):
    path = shutil.copy(sound, in_tmp / "mlflow.db")
    with closing(sqlite3.connect(path, check_same_thread=False)) as other:
        other.execute("begin exclusive")
        held = threading.Timer(1.0, other.rollback)
        held.start()
        assert send_all(f"sqlite:///{path}", INFO, sound.parent / "records").trials == 0
        assert not held.is_alive()


def test_a_store_deleted_while_a_study_runs_is_made_again(sound, in_tmp):
    """A connection that was kept would write to the deleted file. Oracle: the table of a store that nobody deleted."""
    path = Path(shutil.copy(sound, in_tmp / "mlflow.db"))
    tracker = Tracker(f"sqlite:///{path}", INFO, sound.parent / "records")
    tracker.open()
    path.unlink()
    tracker.close("FINISHED")
    assert tracker.problem == ""
    tables = [read_study(uri, "s").trials.to_csv() for uri in (tracker.uri, f"sqlite:///{sound}")]
    assert tables[0] == tables[1]


def test_a_store_on_a_full_disk_is_one_line_of_its_own(sound, in_tmp):
    """SQLAlchemy adds advice to programmers, the statement and all its parameters; what is missing is sent later."""
    records = in_tmp / "records"
    write_trial(records, 0, "COMPLETE", epochs=300)
    with disk(in_tmp / "disk", "1200k") as folder:
        uri = new_store(folder / "mlflow.db")
        tracker = Tracker(uri, INFO, records)
        tracker.open()
        fill(folder)
        tracker.notify(0)
        tracker.close("KILLED")
        assert tracker.problem == "database or disk is full"
        with pytest.raises(UserError, match=r"mlflow.db: database or disk is full; mend it, or name another by --trac"):
            send_all(uri, INFO, records)
        remount(folder, "size=64m")
        assert send_all(uri, INFO, records).trials == 1
        assert read_study(uri, "s").trials["state"].tolist() == ["COMPLETE"]


def test_a_study_that_begins_anew_knows_of_an_earlier_one(sound, in_tmp):
    uri = f"sqlite:///{shutil.copy(sound, in_tmp / 'mlflow.db')}"
    for identity, earlier in (("abc", 0), ("moved", 1), ("moved", 0), ("again", 2)):
        sender = Sender(uri, INFO | {"identity": identity}, in_tmp / "records")
        sender.connect()
        assert sender.earlier == earlier
