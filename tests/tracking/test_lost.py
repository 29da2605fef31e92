"""A server that is lost never stops or slows a study, and has everything once in the end."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.servers import MlflowServer, Proxy, free_port
from helpers.tracked import INFO, write_trial
from mlflow import MlflowClient
from mlflow.entities import ViewType

from aesearch.errors import UserError
from aesearch.records import Record
from aesearch.tracking import Tracker, read_study, send_all
from aesearch.train import Epoch


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("server"))
    yield server
    server.kill()


@pytest.fixture
def running(server: MlflowServer) -> MlflowServer:
    if server.process is None:
        server.start()
    return server


@pytest.fixture
def proxy(running: MlflowServer) -> Iterator[Proxy]:
    proxy = Proxy(running.uri)
    yield proxy
    proxy.close()


@pytest.fixture
def info(request: pytest.FixtureRequest) -> dict:
    """Of a study of the test's own."""
    return INFO | {"name": request.node.name, "identity": request.node.name, "n_trials": 2}


def opened(uri: str, info: dict, records: Path) -> Tracker:
    tracker = Tracker(uri, info, records)
    started = time.monotonic()
    tracker.open()
    assert time.monotonic() - started < 4
    return tracker


def tell(tracker: Tracker, *keys: int) -> None:
    started = time.monotonic()
    for key in keys:
        tracker.notify(key)
    assert time.monotonic() - started < 0.1


def closed(tracker: Tracker, status: str = "FINISHED", within: float = 17) -> Tracker:
    started = time.monotonic()
    tracker.close(status)
    assert time.monotonic() - started < within
    return tracker


def begin(records: Path, key: int) -> Record:
    """A trial that has begun and has no epoch."""
    record = Record(records / f"{key:05d}")
    record.begin({"key": key, "params": {"beta": 0.5}, "distributions": {}, "config": "..."})
    return record


def epoch(record: Record, number: int) -> None:
    record.append(Epoch(number, {"train/loss": (1.0,), "val/mse": (1.0 / number,)}, 0.5, 0.25), elapsed=float(number))


def arrived(uri: str, info: dict, count: int) -> None:
    """Wait until so many trials have ended in MLflow."""
    client, deadline = MlflowClient(uri), time.monotonic() + 40
    experiment = client.get_experiment_by_name(info["name"])
    while True:
        experiment = experiment or client.get_experiment_by_name(info["name"])
        runs = client.search_runs([experiment.experiment_id]) if experiment else []
        if sum("aesearch.trial" in run.data.tags and run.info.status != "RUNNING" for run in runs) >= count:
            return
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.2)


def assert_all_once(uri: str, info: dict, records: Path) -> None:
    """Each trial has one run that has ended, with each point of its record once."""
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name(info["name"]).experiment_id])
    children = [run for run in runs if "aesearch.trial" in run.data.tags]
    keys = sorted(int(run.data.tags["aesearch.trial"]) for run in children)
    assert keys == sorted(int(folder.name) for folder in records.iterdir())
    assert len(runs) == len(children) + 1, "there is one parent"
    assert "RUNNING" not in {run.info.status for run in runs}
    for run in children:
        written = Record(records / f"{int(run.data.tags['aesearch.trial']):05d}").history()
        sent = client.get_metric_history(run.info.run_id, "val/mse")
        assert [(p.step, p.timestamp) for p in sent] == [(line["epoch"], line["time_ms"]) for line in written]
        assert run.data.params.keys() == {"beta"}


def test_a_server_down_at_the_start_has_everything_later(server, info, tmp_path):
    server.kill()
    record = begin(tmp_path, 0)
    tracker = opened(server.uri, info, tmp_path)
    epoch(record, 1)
    tell(tracker, 0)
    server.start()
    epoch(record, 2)
    write_trial(tmp_path, 1, "COMPLETE")
    tell(tracker, 0, 1)
    record.close("PRUNED", "")
    tell(tracker, 0)
    arrived(server.uri, info, 2)
    assert closed(tracker).problem == ""
    assert_all_once(server.uri, info, tmp_path)
    assert read_study(server.uri, info["name"]).trials["state"].tolist() == ["PRUNED", "COMPLETE"]


def test_a_server_killed_on_the_way_has_everything_later(running, info, tmp_path):
    record = begin(tmp_path, 0)
    tracker = opened(running.uri, info, tmp_path)
    epoch(record, 1)
    tell(tracker, 0)
    deadline = time.monotonic() + 30
    while tracker._backlog and time.monotonic() < deadline:
        time.sleep(0.05)
    running.kill()
    epoch(record, 2)
    write_trial(tmp_path, 1, "FAIL", epochs=1, reason="it broke")
    tell(tracker, 0, 1)
    while not tracker.problem:
        assert time.monotonic() < deadline, "that the server is lost was not noticed"
        time.sleep(0.05)
    running.start()
    record.close("PRUNED", "")
    tell(tracker, 0)
    assert closed(tracker).problem == ""
    assert_all_once(running.uri, info, tmp_path)


def test_a_server_that_answers_500_for_a_while_has_everything(proxy, running, info, tmp_path):
    proxy.fail = True
    write_trial(tmp_path, 0, "COMPLETE")
    tracker = opened(proxy.uri, info, tmp_path)
    tell(tracker, 0)
    time.sleep(1)
    assert "500" in tracker.problem
    proxy.fail = False
    write_trial(tmp_path, 1, "PRUNED", epochs=1)
    tell(tracker, 1)
    arrived(running.uri, info, 2)
    assert closed(tracker).problem == ""
    assert_all_once(running.uri, info, tmp_path)


def test_runs_whose_making_was_not_answered_are_found_again(proxy, running, info, tmp_path, capsys):
    proxy.lose = 2
    write_trial(tmp_path, 0, "COMPLETE")
    write_trial(tmp_path, 1, "COMPLETE")
    tracker = opened(proxy.uri, info, tmp_path)
    arrived(running.uri, info, 2)
    assert closed(tracker).problem == ""
    assert proxy.lose == 0
    assert_all_once(running.uri, info, tmp_path)
    client = MlflowClient(running.uri)
    experiment = client.get_experiment_by_name(info["name"]).experiment_id
    assert not client.search_runs([experiment], run_view_type=ViewType.DELETED_ONLY)
    assert capsys.readouterr().out == "", "MLflow itself says nothing"


def test_runs_that_are_made_twice_are_deleted(proxy, running, info, tmp_path):
    proxy.late = 1
    tracker = opened(proxy.uri, info, tmp_path)
    client = MlflowClient(running.uri)
    experiment = client.get_experiment_by_name(info["name"]).experiment_id
    deadline = time.monotonic() + 40
    while not client.search_runs([experiment]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    proxy.late = 1
    write_trial(tmp_path, 0, "COMPLETE")
    write_trial(tmp_path, 1, "COMPLETE")
    tell(tracker, 0, 1)
    arrived(running.uri, info, 2)
    while len(client.search_runs([experiment], run_view_type=ViewType.ALL)) < 5:
        assert time.monotonic() < deadline, "parent and child must be there twice"
        time.sleep(0.1)
    assert closed(tracker).problem == ""
    assert_all_once(running.uri, info, tmp_path)
    assert len(read_study(running.uri, info["name"]).trials) == 2


def test_a_slow_server_delays_nobody_and_gets_the_rest_later(proxy, running, info, tmp_path):
    proxy.seconds = 3
    write_trial(tmp_path, 0, "COMPLETE")
    write_trial(tmp_path, 1, "COMPLETE")
    tracker = opened(proxy.uri, info, tmp_path)
    tell(tracker, *[0, 1] * 1000)
    assert closed(tracker, "KILLED", within=4).problem == "it is too slow"
    assert tracker.missing == 2
    proxy.seconds = 0
    tracker._thread.join(30)
    sent = send_all(running.uri, info, tmp_path)
    assert sent.finished
    assert_all_once(running.uri, info, tmp_path)
    before = MlflowClient(running.uri).get_run(sent.runs[0]).info.end_time
    again = send_all(running.uri, info, tmp_path)
    assert (again.trials, again.points, again.runs) == (0, 0, sent.runs)
    assert MlflowClient(running.uri).get_run(sent.runs[0]).info.end_time == before
    assert_all_once(running.uri, info, tmp_path)


def test_a_server_that_is_lost_for_good_ends_in_time(info, tmp_path):
    write_trial(tmp_path, 0, "COMPLETE")
    tracker = opened(f"http://127.0.0.1:{free_port()}", info, tmp_path)
    tell(tracker, 0)
    assert "Connection refused" in closed(tracker, "KILLED", within=4).problem
    with pytest.raises(UserError, match=r"MLflow's store must be reachable, but http.*Connection refused"):
        send_all(tracker.uri, info, tmp_path)


def test_later_metrics_are_sent_beside_those_from_elsewhere(running, info, tmp_path):
    from aesearch.tracking import add_scores

    def scores(name: str) -> dict:
        return {"metrics": {name: [0.5, 0.25, 0.5]}, "references": {}, "protocols": {}}

    write_trial(tmp_path, 0, "COMPLETE")
    record, run = Record(tmp_path / "00000"), send_all(running.uri, info, tmp_path).runs[0]
    add_scores(running.uri, run, scores("test/elsewhere"), record)
    record.rescore(scores("test/here"))
    assert send_all(running.uri, info, tmp_path).points == 6
    assert send_all(running.uri, info, tmp_path).trials == 0
    row = read_study(running.uri, info["name"]).trials.iloc[0]
    assert (row["test/here"], row["test/elsewhere"]) == (0.5, 0.5)
    assert MlflowClient(running.uri).get_run(run).data.metrics["test/here_min"] == 0.25


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("htp://127.0.0.1:5000", "must name a store or server with its host; write sqlite:///mlflow.db"),
        ("http://", "must name a store or server with its host"),
        ("http://127.0.0.1:port", "cannot be read as an address; write sqlite"),
        ("mlruns", "must name a store or server with its host"),
        ("sqlite:///nowhere/mlflow.db", "there is no folder"),
        ("sqlite:////proc/self/mlflow.db", "must name a file that can be written"),
        ("sqlite:///.", "is a folder"),
        ("postgresql+nothing://me:secret@127.0.0.1/db", r"me:\*\*\*@127.0.0.1/db cannot be opened"),
    ],
)
def test_what_cannot_be_right_is_refused_at_once(in_tmp, uri, message):
    with pytest.raises(UserError, match=message) as refused:
        opened(uri, INFO, in_tmp)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_server_that_is_no_mlflow_is_refused(running, info, tmp_path):
    with pytest.raises(UserError, match=r"must be reachable, but .*404"):
        opened(f"{running.uri}/nowhere", info, tmp_path)
