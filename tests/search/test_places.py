"""Kill a study where it writes.

Some places of each command are tried here, all of them by benchmarks/places.py.
"""

import sys
from pathlib import Path

import optuna
import pytest

from aesearch.records import Record

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import places

sys.path.pop(0)


@pytest.fixture(autouse=True)
def quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


@pytest.mark.parametrize("name", places.commands())
def test_a_command_that_is_killed_goes_on_to_the_same(name, tmp_path: Path):
    """Oracle: the trials, values and files of the same command that nothing harmed."""
    expected, passed, idle = places.undisturbed(name, tmp_path)
    assert len(passed) >= idle
    third = len(passed) // 3
    jobs = [
        places.Job(name, third + 1, torn=True, again=None),
        places.Job(name, 2 * third + 2, torn=False, again=None),
        places.Job(name, third + 5, torn=False, again=idle + 3),
    ]
    assert {job: places.disturbed(job, tmp_path, expected) for job in jobs} == dict.fromkeys(jobs, "")


def test_what_is_written_in_the_wrong_order_is_found(tmp_path: Path, monkeypatch):
    """A ledger that closes a record after the state is written loses the record's end."""

    def wrong(ledger, key, outcome, own=places.Ledger.tell, close=Record.close):
        with monkeypatch.context() as patch:
            patch.setattr(Record, "close", lambda *_: None)
            own(ledger, key, outcome)
        close(ledger.record(key), outcome.state, outcome.reason)

    monkeypatch.setattr(places.Ledger, "tell", wrong)
    expected, passed, _ = places.undisturbed("grid", tmp_path)
    at = passed.index("open state.tmp") + 1
    assert "differ" in places.disturbed(places.Job("grid", at, False, None), tmp_path, expected)
