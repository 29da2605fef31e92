"""What changes of a trial after its end: replicas are added, its model is discarded. Against a real SQLite
store and a real server."""

import json
from collections.abc import Iterator

import pytest
from helpers.servers import MlflowServer
from helpers.tracked import five_hours_ago, runs, track, write_trial
from mlflow import MlflowClient

from aesearch.discarding import discard
from aesearch.records import Record
from aesearch.tracking import read_study


def add_replicas(record: Record) -> None:
    """A fourth replica, as joining leaves the record; it is best in the first epoch."""
    lines = record.history()
    for line in lines:
        line["metrics"] = {name: [*values, 9.0 * line["epoch"] - 9.0] for name, values in line["metrics"].items()}
    (record.folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = record.read("result.json")
    result["metrics"] = {name: [*values, 0.25] for name, values in result["metrics"].items()}
    record.finish(result | {"selected_epochs": [3, 2, 3, 1], "first_replicas": 3})


@pytest.mark.parametrize(("restarted", "back"), [(True, False), (False, False), (True, True)])
def test_added_replicas_change_final_values_and_no_curve(uri, tmp_path, monkeypatch, restarted, back):
    """Even where they are added ``back`` in time, by the clock."""
    from aesearch.tracking import Tracker

    records = tmp_path / "records"
    write_trial(records, 0, "COMPLETE")
    write_trial(records, 1, "COMPLETE")
    history = records / "00000" / "history.jsonl"
    *first, last = map(json.loads, history.read_text().splitlines())
    last["metrics"]["val/mse"][2] = 0.18
    history.write_text("".join(json.dumps(line) + "\n" for line in (*first, last)))
    tracker = track(uri, records, [0, 1])
    before = {run.info.run_id: run for run in runs(uri)}
    if back:
        five_hours_ago(monkeypatch)
    add_replicas(Record(records / "00000"))
    if restarted:
        track(uri, records, [0])
    else:
        assert tracker.sender.send(0) > 0
        assert tracker.sender.send(0) == 0
    assert isinstance(tracker, Tracker)
    assert len(runs(uri)) == 3
    run = next(run for run in runs(uri) if run.data.tags.get("aesearch.trial") == "0")
    other = next(run for run in runs(uri) if run.data.tags.get("aesearch.trial") == "1")
    assert run.info.status == "FINISHED"
    assert run.data.metrics["final/val/mse"] == 0.225
    assert before[run.info.run_id].data.metrics["best/val/mse"] == 0.18, "of the last epoch"
    assert run.data.metrics["best/val/mse"] == pytest.approx(0.15), "of the first, of (0.3, 0.1, 0.2, 0)"
    assert other.data.metrics == before[other.info.run_id].data.metrics
    client = MlflowClient(uri)
    assert [p.step for p in client.get_metric_history(run.info.run_id, "val/mse")] == [1, 2, 3]
    rows = read_study(uri, "s").replicas
    assert rows.groupby("trial").size().to_dict() == {0: 4, 1: 3}


@pytest.fixture
def server(tmp_path) -> Iterator[str]:
    server = MlflowServer(tmp_path)
    server.start()
    yield server.uri
    server.kill()


@pytest.mark.parametrize(("store", "sent"), [("uri", True), ("uri", False), ("server", True)])
def test_a_model_that_is_discarded_goes_from_its_run_too(request, tmp_path, store, sent):
    uri = request.getfixturevalue(store)
    records = tmp_path / "records"
    write_trial(records, 0, "COMPLETE")
    write_trial(records, 1, "COMPLETE")
    record = Record(records / "00000")
    (record.artifacts / "traversals.png").write_bytes(b"picture")
    if sent:
        track(uri, records, [0, 1])
    assert discard(record.artifacts, "two others are better")
    tracker = track(uri, records, [0, 1])
    assert tracker.sender._has(0, record)
    client = MlflowClient(uri)
    kept = {}
    for run in runs(uri):
        if "aesearch.trial" in run.data.tags:
            names = {file.path for file in client.list_artifacts(run.info.run_id, "model")}
            kept[run.data.tags["aesearch.trial"]] = names
            assert run.info.status == "FINISHED"
    assert kept["0"] == {"model/traversals.png", "model/discarded.txt"}
    assert kept["1"] == {"model/model.safetensors"}
