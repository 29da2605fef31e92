import os
import resource
from pathlib import Path

import pytest

from aesearch.records import Record, epoch_line, summary
from aesearch.scores import Reference
from aesearch.train import Epoch, Result


def epoch(number: int) -> Epoch:
    return Epoch(number, {"train/loss": (1.0, 2.0), "val/mse": (0.5, float("nan"))}, 0.1, 0.2)


def test_what_is_written_is_read(tmp_path: Path):
    record = Record(tmp_path / "0")
    record.begin({"key": 0, "params": {"beta": 1.5}})
    record.append(epoch(1), 0.3)
    record.append(epoch(2), 0.6)
    record.finish({"metrics": {"val/mse": (0.5, 0.25)}})
    record.close("COMPLETE", "")
    assert record.read("trial.json")["params"] == {"beta": 1.5}
    assert [line["epoch"] for line in record.history()] == [1, 2]
    assert record.history()[0]["metrics"]["train/loss"] == [1.0, 2.0]
    assert record.read("result.json")["metrics"]["val/mse"] == [0.5, 0.25]
    assert record.read("state.json")["state"] == "COMPLETE"
    assert record.read("failure.json") == {}


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path):
    record = Record(tmp_path / "0")
    record.begin({})
    record.append(epoch(1), 0.3)
    with (record.folder / "history.jsonl").open("a") as file:
        file.write('{"epoch": 2, "metr')
    assert [line["epoch"] for line in record.history()] == [1]


def test_a_new_attempt_keeps_nothing_of_the_last(tmp_path: Path):
    record = Record(tmp_path / "0")
    record.begin({"key": 0})
    record.append(epoch(1), 0.3)
    try:
        raise RuntimeError("a\nb")
    except RuntimeError as error:
        record.fail(error)
    assert record.read("failure.json")["reason"] == "RuntimeError: a b"
    assert "Traceback" in record.read("failure.json")["traceback"]
    record.begin({"key": 0})
    assert record.history() == []
    assert record.read("failure.json") == {}


def test_an_attempt_that_has_no_room_to_write_loses_no_epoch(tmp_path: Path):
    """As little as one that is killed while it writes."""
    record = Record(tmp_path / "0")
    record.begin({})
    for number in range(1, 6):
        record.append(epoch(number), 0.3)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            record.attempt()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [line["epoch"] for line in record.history()] == [1, 2, 3, 4, 5]


def test_another_attempt_keeps_the_epochs_and_the_checkpoints(tmp_path: Path):
    record = Record(tmp_path / "0")
    record.begin({"key": 0})
    record.append(epoch(1), 0.3)
    with (record.folder / "history.jsonl").open("a") as file:
        file.write('{"epoch": 2, "metr')
    record.checkpoints.mkdir()
    (record.checkpoints / "epoch-000001.json").write_text("{}")
    (record.artifacts / "half.png").write_text("")
    record.remark("a remark")
    record.begin({"key": 0}, again=True)
    assert record.attempt() == 1
    record.append(epoch(2), 0.6)
    assert record.attempt() == 2
    assert record.read("worker.json")["pid"] == os.getpid()
    assert [line["epoch"] for line in record.history()] == [1, 2], "the torn line is gone"
    assert list(record.checkpoints.iterdir())
    assert not list(record.artifacts.iterdir())
    assert record.remarks() == []
    record.close("COMPLETE", "")
    assert not record.checkpoints.exists(), "what has ended needs none"


def kinds(value: object) -> set[type]:
    """The types in a value, of dictionaries and sequences all the way down."""
    inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    return {type(value)}.union(*map(kinds, inner)) if isinstance(value, dict | list | tuple) else {type(value)}


def test_what_is_handed_over_is_of_plain_values():
    """A value of this package would make the process that writes the records import torch, for seconds."""
    reference = {"val/mig": Reference(0.1, 0.9, 0.02)}
    result = Result({"val/loss": (1.0, 2.0)}, (1, 1), {}, reference, {"fast": {"hash": "a"}})
    plain = {dict, list, tuple, str, int, float}
    assert kinds(summary(result, 1.0)) <= plain
    assert kinds(epoch_line(epoch(1), 1.0)) <= plain
