"""Kill a command where it writes.

Some places of each command are tried here, all of them by benchmarks/places.py.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
import pytest

from aesearch.records import Record
from aesearch.search.ledger import Ledger
from aesearch.tracking import Sender

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import places
from killing import memory

sys.path.pop(0)

# Their code is that of others here, or they take seconds for a place.
LEFT_OUT = {"random", "nsga2", "compare", "sync", "run", "store"}


@pytest.fixture(autouse=True)
def quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


@pytest.fixture
def folder():
    with TemporaryDirectory(dir=memory()) as name:
        yield Path(name)


@pytest.mark.parametrize("name", sorted(places.COMMANDS.keys() - LEFT_OUT))
def test_a_command_that_is_killed_goes_on_to_the_same(name, folder):
    """Oracle: what the same command comes to that nothing harmed."""
    whole = places.undisturbed(name, folder)
    opened = [at for at, place in enumerate(whole.passed, start=1) if place.startswith("open")]
    jobs = [
        places.Job(name, opened[len(opened) // 3], torn=True),
        places.Job(name, 2 * len(whole.passed) // 3, again=8),
    ]
    assert {job: places.disturbed(job, whole) for job in jobs} == dict.fromkeys(jobs, "")


def test_what_is_written_in_the_wrong_order_is_found(folder, monkeypatch):
    """A ledger that closes a record after the state is written loses the record's end."""

    def wrong(ledger, key, outcome, own=Ledger.tell, close=Record.close):
        with monkeypatch.context() as patch:
            patch.setattr(Record, "close", lambda *_: None)
            own(ledger, key, outcome)
        close(ledger.record(key), outcome.state, outcome.reason)

    monkeypatch.setattr(Ledger, "tell", wrong)
    whole = places.undisturbed("grid", folder)
    at = whole.passed.index("open state.tmp") + 1
    assert "differs" in places.disturbed(places.Job("grid", at), whole)


def test_what_is_taken_for_whole_is_found(folder, monkeypatch):
    """A study's run whose files of the report are half there has no report."""
    monkeypatch.setattr(Sender, "has_report", lambda sender: sender._client.list_artifacts(sender._parent, "report"))
    whole = places.undisturbed("sync", folder)
    at = len(whole.passed) - whole.passed[::-1].index("open report.md")
    assert "s files report" in places.disturbed(places.Job("sync", at, torn=True), whole)
