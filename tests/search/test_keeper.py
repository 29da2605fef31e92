"""What the keeper does with messages that come late, twice, in pieces, or after it was killed itself."""

import json
import os
from pathlib import Path

import pytest
from helpers.small import make

from aesearch.records import Record
from aesearch.search.keeper import Keeper, SupersededError
from aesearch.search.ledger import Ledger
from aesearch.search.state import session_of
from aesearch.search.values import Place

FIRST = Place(0)


@pytest.fixture
def ledger(tmp_path: Path):
    before = os.umask(0o022)
    ledger = Ledger.open(make(), tmp_path)
    ledger.ask()
    yield ledger
    ledger.close()
    os.umask(before)


def keeper_of(ledger: Ledger) -> Keeper:
    return Keeper(ledger.folder, session_of(ledger.folder))


def line(number: int) -> dict:
    return {"epoch": number, "elapsed": float(number), "metrics": {"val/mse": [1.0 / number]}}


def send(keeper: Keeper, attempt: int, name: str, content: bytes, chunk: int = 4) -> None:
    for offset in range(0, max(1, len(content)), chunk):
        keeper.receive(FIRST, attempt, name, offset, content[offset : offset + chunk])


def test_each_attempt_learns_what_the_ones_before_have_left(ledger):
    keeper = keeper_of(ledger)
    left = keeper.take_up(FIRST, 11, "here")
    assert (left.attempt, left.history, left.checkpoints, left.failure, left.result) == (1, (), (), "", {})
    keeper.add_epoch(FIRST, 1, line(1))
    send(keeper, 1, "epoch-000001.safetensors", b"weights")
    send(keeper, 1, "epoch-000001.json", b"{}")
    names = ["epoch-000001.safetensors", "epoch-000001.json"]
    keeper.keep_checkpoint(FIRST, 1, names, names)
    again = keeper_of(ledger).take_up(FIRST, 12, "there")
    assert (again.attempt, [one["epoch"] for one in again.history]) == (2, [1])
    assert again.checkpoints == tuple(sorted(names))
    assert keeper.fetch(FIRST, "checkpoints/epoch-000001.safetensors", 2) == b"ights"
    assert ledger.record(0).read("worker.json") == {"attempts": 2, "pid": 12, "host": "there"}


def test_a_message_that_comes_twice_changes_nothing(ledger):
    keeper, record = keeper_of(ledger), ledger.record(0)
    keeper.take_up(FIRST, 11, "here")
    for _ in range(2):
        keeper.add_epoch(FIRST, 1, line(1))
        keeper.remark(FIRST, 1, "a remark")
        send(keeper, 1, "model.safetensors", b"weights of a model")
    assert [one["epoch"] for one in record.history()] == [1]
    assert record.remarks() == ["a remark"]
    for _ in range(2):
        keeper.finish(FIRST, 1, ["model.safetensors"], {"metrics": {"val/mse": [0.5]}})
        assert (record.artifacts / "model.safetensors").read_bytes() == b"weights of a model"
        assert record.read("result.json")["metrics"] == {"val/mse": [0.5]}
    assert not (record.folder / "incoming").exists()


def test_an_attempt_that_is_over_writes_nothing_more(ledger):
    keeper, record = keeper_of(ledger), ledger.record(0)
    keeper.take_up(FIRST, 11, "here")
    keeper.take_up(FIRST, 12, "there")
    for message in (
        lambda: keeper.add_epoch(FIRST, 1, line(1)),
        lambda: keeper.receive(FIRST, 1, "model.safetensors", 0, b"old"),
        lambda: keeper.keep_checkpoint(FIRST, 1, [], []),
        lambda: keeper.finish(FIRST, 1, [], {}),
        lambda: keeper.fail(FIRST, 1, "old", ""),
        lambda: keeper.remark(FIRST, 1, "old"),
    ):
        with pytest.raises(SupersededError, match="attempt 1 at trial 0 is over"):
            message()
    assert {path.name for path in record.folder.iterdir()} == {"artifacts", "trial.json", "worker.json"}


def test_the_keeper_of_an_earlier_driver_writes_nothing_more(ledger, tmp_path):
    keeper = keeper_of(ledger)
    keeper.take_up(FIRST, 11, "here")
    ledger.close()
    after = Ledger.open(make(), tmp_path)
    after.ask()
    with pytest.raises(SupersededError, match="another driver has taken over"):
        keeper.add_epoch(FIRST, 1, line(1))
    with pytest.raises(SupersededError):
        keeper.take_up(FIRST, 11, "here")
    assert after.record(0).history() == []
    assert keeper_of(after).take_up(FIRST, 12, "here").attempt == 1
    after.close()


def test_files_that_no_result_followed_are_not_the_trials(ledger):
    keeper, record = keeper_of(ledger), ledger.record(0)
    keeper.take_up(FIRST, 11, "here")
    send(keeper, 1, "model.safetensors", b"half of")
    keeper_of(ledger).take_up(FIRST, 12, "here")
    assert not (record.folder / "incoming").exists()
    assert list(record.artifacts.iterdir()) == []


def test_what_a_keeper_writes_is_private_whatever_the_umask(ledger):
    keeper, record = keeper_of(ledger), ledger.record(0)
    keeper.take_up(FIRST, 11, "here")
    keeper.add_epoch(FIRST, 1, line(1))
    send(keeper, 1, "model.safetensors", b"weights")
    keeper.finish(FIRST, 1, ["model.safetensors"], {"metrics": {}})
    for path in (record.artifacts / "model.safetensors", *record.folder.glob("[hrw]*.json*")):
        assert path.stat().st_mode & 0o777 == 0o600, path.name


def test_a_part_that_is_joined_twice_is_joined_once(ledger):
    """Its keeper may be killed after any of the steps of a join, and Ray then sends the message again."""
    keeper, whole = keeper_of(ledger), ledger.record(0)
    keeper.take_up(FIRST, 11, "here")
    # Another release may have measured what this one does not, and the other way round.
    keeper.add_epoch(FIRST, 1, line(1) | {"metrics": {"val/mse": [1.0], "val/old": [2.0]}})
    keeper.finish(FIRST, 1, [], {"metrics": {"val/mse": [1.0]}, "selected_epochs": [1]})
    part = Place(0, 1, 2)
    Record(part.folder(ledger.folder / "trials")).begin({"key": 0, "start": 1, "stop": 2}, again=True)
    left = keeper.take_up(part, 11, "here")
    assert left.result["metrics"] == {"val/mse": [1.0]}
    keeper.add_epoch(part, 1, line(1) | {"metrics": {"val/new": [3.0], "val/mse": [9.0]}})
    keeper.remark(part, 1, "a remark")
    keeper.receive(part, 1, "model.safetensors", 0, b"both")
    for _ in range(2):
        keeper.join(part, 1, ["model.safetensors"], {"metrics": {"val/mse": [1.0, 9.0]}})
        assert whole.history()[0]["metrics"] == {"val/mse": [1.0, 9.0]}
        assert whole.remarks() == ["replicas 1 to 1: a remark"]
        assert (whole.artifacts / "model.safetensors").read_bytes() == b"both"
        assert json.loads((whole.folder / "result.json").read_text())["metrics"] == {"val/mse": [1.0, 9.0]}
