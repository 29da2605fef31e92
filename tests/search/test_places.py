"""Kill a command where it writes.

Some places of each command are tried here, all of them by benchmarks/places.py.
"""

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
import pytest

from aesearch.records import Record
from aesearch.search.ledger import Ledger

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import places
from killing import memory

sys.path.pop(0)

# Their code is that of others here, or they take seconds for a place.
LEFT_OUT = {"gp", "nsga2", "random", "report", "compare", "sync", "run", "store"}


@pytest.fixture(scope="module", autouse=True)
def quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with TemporaryDirectory(dir=memory()) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def undisturbed(folder):
    """What a command comes to that nothing harmed, by name."""
    return cache(lambda name: places.undisturbed(name, folder / name))


@pytest.mark.parametrize("name", sorted(places.COMMANDS.keys() - LEFT_OUT))
def test_a_command_that_is_killed_goes_on_to_the_same(name, undisturbed):
    """It is killed twice: in the middle of a file, and soon after it went on."""
    whole = undisturbed(name)
    opened = [at for at, place in enumerate(whole.passed, start=1) if place.startswith("open")]
    at = opened[2 * len(opened) // 3]
    assert places.disturbed(places.Job(name, at, torn=True, again=8), whole) == ""


@pytest.mark.parametrize("name", ["grid", "replicas"])
def test_a_search_that_is_killed_once_goes_on_to_the_same(name, undisturbed):
    whole = undisturbed(name)
    assert places.disturbed(places.Job(name, len(whole.passed) // 3), whole) == ""


def test_what_is_written_in_the_wrong_order_is_found(folder, monkeypatch):
    """A ledger that closes a record after the state is written loses the record's end."""

    def wrong(ledger, key, outcome, own=Ledger.tell, close=Record.close):
        with monkeypatch.context() as patch:
            patch.setattr(Record, "close", lambda *_: None)
            own(ledger, key, outcome)
        close(ledger.record(key), outcome.state, outcome.reason)

    monkeypatch.setattr(Ledger, "tell", wrong)
    whole = places.undisturbed("grid", folder / "wrong")
    at = whole.passed.index("open state.tmp") + 1
    assert "differs" in places.disturbed(places.Job("grid", at), whole)
