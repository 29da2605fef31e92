"""Write the records of trials and track them in MLflow."""

import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from aesearch.records import Record
from aesearch.tracking import Tracker
from aesearch.train import Epoch

INFO = {
    "name": "s",
    "identity": "abc",
    "question": "Why?",
    "metrics": [["val/mse", "minimize"]],
    "distributions": {},
    "n_trials": 3,
    "seed": 0,
    "file": "s.py",
    "file_sha256": "12",
    "version": "0.1.0",
}
FLOAT = '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.1, "high": 10.0, "log": true}}'


def write_trial(records: Path, key: int, state: str, epochs: int = 3, reason: str = "") -> None:
    """Write the record of a trial as driver and worker leave it."""
    record = Record(records / f"{key:05d}")
    record.begin({"key": key, "params": {"beta": 0.5 + key}, "distributions": {"beta": FLOAT}, "config": "..."})
    for number in range(1, epochs + 1):
        metrics = {"train/loss": (3.0 / number, 2.0, 1.0), "val/mse": (0.3, 0.1 / number, 0.2)}
        record.append(Epoch(number, metrics, 0.5, 0.25), elapsed=float(number))
    if state == "COMPLETE":
        (record.artifacts / "model.safetensors").write_bytes(b"weights")
        final = {"val/mse": (0.3, 0.05, 0.2), "test/mse": (0.4, 0.06, 0.3)}
        record.finish({"metrics": final, "selected_epochs": [3, 2, 3], "seconds": 3.5})
    if state:
        record.close(state, reason)


def track(uri: str, records: Path, keys: list[int], status: str = "FINISHED", **info) -> Tracker:
    tracker = Tracker(uri, INFO | info, records)
    tracker.open()
    for key in keys:
        tracker.notify(key)
    tracker.close(status)
    assert tracker.problem == ""
    return tracker


def runs(uri: str) -> list:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("s")
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])


def five_hours_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 5 * 3600)
