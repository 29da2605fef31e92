"""What is on disk between two commands may be damaged by others: it is told in one line with its path, and no trial
that has ended is lost. Workers, drivers and searches that end are in test_faults.py and test_outages.py."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from helpers.small import make

from aesearch.errors import UserError
from aesearch.records import Record
from aesearch.records.record import JSON_FILES
from aesearch.search.ledger import Ledger
from aesearch.search.state import move_aside
from aesearch.search.values import Outcome
from aesearch.train import Epoch


def epoch(number: int) -> Epoch:
    return Epoch(number, {"train/loss": (1.0, 2.0), "val/mse": (0.5, 0.3)}, 0.1, 0.2)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Trial 0 has ended; the driver died when trial 1 had, and trial 2 had not."""
    ledger = Ledger.open(make(), tmp_path)
    for key in range(3):
        ledger.ask()
        record = ledger.record(key)
        record.attempt()
        record.append(epoch(1), 0.1)
        record.append(epoch(2), 0.2)
        if key < 2:
            record.finish({"metrics": {"val/mse": [0.5, 0.3]}})
    ledger.tell(0, Outcome("COMPLETE", (0.4,)))
    ledger.close()
    return tmp_path


def results(home: Path) -> dict[str, bytes]:
    """The results that are on disk, by what stays the same when they are moved aside."""
    return {path.parent.name: path.read_bytes() for path in home.glob("s*/trials/*/result.json")}


def refused(home: Path, *parts: str) -> None:
    """Opening says one line with ``parts``, loses nothing, and --fresh, which it names, goes on."""
    before = results(home)
    with pytest.raises(UserError) as caught:
        Ledger.open(make(), home)
    assert "\n" not in str(caught.value)
    for part in (*parts, "--fresh"):
        assert part in str(caught.value)
    assert results(home) == before
    # The lock is not kept, and what the message proposes works.
    assert move_aside(make(), home) == home / "s.old-1"
    assert results(home) == before
    ledger = Ledger.open(make(), home)
    assert ledger.ask()[0] == 0
    ledger.close()


def test_nothing_damaged_goes_on(home):
    """The oracle of all others: the fixture itself is opened, and the trial that had ended is not run again."""
    before = results(home)
    ledger = Ledger.open(make(), home)
    assert ledger.counts() == {"COMPLETE": 2, "WAITING": 1}
    assert ledger.ask()[0] == 2
    ledger.close()
    assert results(home) == before


@pytest.mark.parametrize(("key", "name"), [(i % 3, name) for i, name in enumerate(JSON_FILES)])
def test_a_damaged_file_of_a_trial_is_named(home, key, name):
    """Oracle: the bytes of all results before and after; keys are of trials that ended, seemed to run, and ran."""
    path = home / "s" / "trials" / f"{key:05d}" / name
    path.write_text('{"key": 0, "par')
    refused(home, str(path), "is no JSON object")


@pytest.mark.parametrize("content", [b"", b'{"key": 0, "par', b"\x00" * 64, b"[]", b"\xff\xfe{}"])
def test_whatever_is_no_json_object_is_damage(tmp_path, content):
    record = Record(tmp_path)
    for name in JSON_FILES:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"{name} is no JSON object; restore it"):
            record.check()
        (tmp_path / name).unlink()
    record.check()


@pytest.mark.parametrize(
    ("content", "what"),
    [('{"epoch": 1}\ngarbage\n{"epoch": 3}\n', "in line 2 is no JSON object"), ("\x00\x00\n", "in line 1")],
)
def test_a_damaged_history_is_named_with_its_line(home, content, what):
    path = home / "s" / "trials" / "00001" / "history.jsonl"
    path.write_text(content)
    refused(home, str(path), what)


def test_an_empty_history_is_damaged_where_a_trial_has_a_result(home):
    path = home / "s" / "trials" / "00001" / "history.jsonl"
    path.write_text("")
    refused(home, str(path), "is empty")


def test_an_empty_history_and_a_torn_last_line_are_no_damage(home):
    """A worker that was killed leaves both; the trial goes on with what is whole."""
    trials = home / "s" / "trials"
    (trials / "00002" / "history.jsonl").write_text("")
    with (trials / "00001" / "history.jsonl").open("a") as file:
        file.write('{"epoch": 3, "metr')
    ledger = Ledger.open(make(), home)
    assert [len(ledger.record(key).history()) for key in range(3)] == [2, 2, 0]
    ledger.close()


def other_sqlite(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("create table other (a)")
    connection.close()


def other_study(path: Path) -> None:
    path.unlink()
    optuna.create_study(storage=f"sqlite:///{path}", study_name="other")


def other_directions(path: Path) -> None:
    path.unlink()
    optuna.create_study(storage=f"sqlite:///{path}", study_name="s", directions=["maximize", "minimize"])


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "must be an Optuna database"),
        (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "must be an Optuna database"),
        (lambda path: path.write_bytes(b""), "none of the 3 trials in"),
        (lambda path: path.unlink(), "none of the 3 trials in"),
        (other_sqlite, "none of the 3 trials in"),
        (other_study, "none of the 3 trials in"),
        (other_directions, "none of the 3 trials in"),
        (lambda path: (path.unlink(), path.mkdir()), "must be an Optuna database"),
    ],
)
def test_a_foreign_ledger_is_refused_before_any_overwrite(home, damage, what):
    """Trial 0 of a ledger begun anew would take the folder of the old trial 0."""
    path = home / "s" / "ledger.db"
    damage(path)
    refused(home, str(path), what)


def test_a_ledger_that_is_gone_is_moved_aside_by_fresh_alone(home):
    (home / "s" / "ledger.db").unlink()
    before = results(home)
    assert move_aside(make(), home) == home / "s.old-1"
    assert results(home) == before


def test_a_ledger_of_other_directions_is_refused(tmp_path):
    Ledger.open(make(), tmp_path).close()
    other_directions(tmp_path / "s" / "ledger.db")
    refused(tmp_path, "ledger.db", "none of the 0 trials")


HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("begin exclusive")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_ledger_held_by_another_process_loses_nothing(home):
    path = home / "s" / "ledger.db"
    before = results(home)
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=r"ledger\.db.*database is locked") as caught:
            Ledger.open(make(), home)
        assert "\n" not in str(caught.value)
        other.stdin.close()
    assert results(home) == before
    ledger = Ledger.open(make(), home)
    assert ledger.counts() == {"COMPLETE": 2, "WAITING": 1}
    ledger.close()


@pytest.mark.parametrize("content", ["", "garbage", '{"pid": '])
def test_what_the_lock_files_hold_does_not_matter(home, content):
    """Only the lock itself counts: of a dead driver it is none, whatever is written there."""
    for name in ("lock", "driver.json"):
        (home / "s" / name).write_text(content)
    ledger = Ledger.open(make(), home)
    (home / "s" / "driver.json").write_text(content)
    with pytest.raises(UserError, match=r"only one driver may run a study, but s is being run by process \? on \?"):
        Ledger.open(make(), home)
    ledger.close()
    Ledger.open(make(), home).close()
    assert "pid" in json.loads((home / "s" / "driver.json").read_text())
