"""Against a real SQLite store; a server over PostgreSQL speaks the same client."""

import subprocess
import sys
import time

import pandas as pd
import pytest
from helpers.tracked import FLOAT, INFO, five_hours_ago, runs, track, write_trial
from mlflow import MlflowClient

from aesearch.errors import UserError
from aesearch.records import Record, write_json
from aesearch.records.results import local_results
from aesearch.tracking import Tracker, read_study, register_model
from aesearch.train import Epoch


def test_a_study_is_a_parent_run_and_a_child_per_trial(uri, tmp_path):
    records = tmp_path / "records"
    write_trial(records, 0, "COMPLETE")
    write_trial(records, 1, "PRUNED", epochs=1)
    write_trial(records, 2, "FAIL", epochs=0, reason="it broke")
    track(uri, records, [0, 1, 2])
    parent, *children = runs(uri)
    assert parent.info.status == "FINISHED"
    assert [child.info.status for child in children] == ["FINISHED", "KILLED", "FAILED"]
    assert all(child.data.tags["mlflow.parentRunId"] == parent.info.run_id for child in children)
    complete, pruned, failed = children
    assert complete.data.params == {"beta": "0.5"}
    assert complete.data.metrics["val/mse"] == 0.2
    assert complete.data.metrics["test/mse"] == 0.3
    assert complete.data.metrics["final/val/mse_min"] == 0.05
    assert complete.data.tags["aesearch.state"] == "COMPLETE"
    assert complete.data.tags["aesearch.file_sha256"] == "12"
    assert pruned.data.tags["aesearch.state"] == "PRUNED"
    assert failed.data.tags["aesearch.reason"] == "it broke"
    client = MlflowClient(uri)
    history = client.get_metric_history(complete.info.run_id, "val/mse_min")
    assert [(point.step, point.value) for point in history] == [(1, 0.1), (2, 0.05), (3, 0.1 / 3)]
    names = {file.path for file in client.list_artifacts(complete.info.run_id)}
    assert {"model", "trial.json", "history.jsonl", "result.json", "state.json"} <= names


def test_sending_everything_again_changes_nothing(uri, tmp_path):
    records = tmp_path / "records"
    write_trial(records, 0, "", epochs=2)
    track(uri, records, [0, 0], status="KILLED")
    write_trial(records, 0, "COMPLETE")
    for _ in range(3):
        track(uri, records, [0, 0])
    assert len(runs(uri)) == 2
    child = runs(uri)[1]
    history = MlflowClient(uri).get_metric_history(child.info.run_id, "train/loss")
    # Two points of the interrupted attempt, three of the one that finished.
    assert len(history) == 5
    assert child.info.status == "FINISHED"


def test_what_was_written_is_read_back(uri, tmp_path):
    records = tmp_path / "records"
    write_trial(records, 0, "COMPLETE")
    write_trial(records, 1, "PRUNED", epochs=2)
    write_trial(records, 2, "FAIL", epochs=0, reason="it broke")
    write_trial(records, 3, "", epochs=1)
    track(uri, records, [0, 1, 2, 3])
    results = read_study(uri, "s")
    trials = results.trials.set_index("trial")
    assert trials["state"].to_dict() == {0: "COMPLETE", 1: "PRUNED", 2: "FAIL"}
    assert trials["epochs"].tolist() == [3, 2, 0]
    assert trials["seconds"].tolist() == [3.5, 2.0, 0.0]
    assert trials["param:beta"].tolist() == [0.5, 1.5, 2.5]
    assert trials.loc[0, ["val/mse", "val/mse_min", "val/mse_max", "test/mse"]].tolist() == [0.2, 0.05, 0.3, 0.3]
    assert trials.loc[1, "val/mse"] == 0.2
    assert trials.loc[2, "reason"] == "it broke"
    replicas = results.replicas.set_index(["trial", "replica"])
    assert replicas.loc[(0, 1), ["epoch", "val/mse", "test/mse"]].tolist() == [2, 0.05, 0.06]
    assert len(results.history) == 3 * 3 + 2 * 3
    assert results.info == INFO
    assert results.distributions == {"beta": FLOAT}


def test_the_records_alone_give_the_same_results(uri, tmp_path):
    records = tmp_path / "trials"
    write_trial(records, 0, "COMPLETE")
    write_trial(records, 1, "PRUNED", epochs=2)
    write_trial(records, 2, "FAIL", epochs=0, reason="it broke")
    write_trial(records, 3, "", epochs=1)
    Record(records / "00000").rescore({"metrics": {"test/x": [0.5, 0.25, 0.5]}, "references": {"test/x": [0.0, 1.0]}})
    write_json(tmp_path / "study.json", INFO)
    track(uri, records, [])
    here, there = local_results(tmp_path), read_study(uri, "s")
    for name in ("trials", "replicas", "history", "references"):
        pd.testing.assert_frame_equal(getattr(here, name), getattr(there, name))
    assert (here.info, here.distributions, here.protocols) == (there.info, there.distributions, there.protocols)
    assert here.trials["test/x"].tolist()[0] == 0.5
    assert {key: sorted(path.name for path in folder.glob("*")) for key, folder in here.pictures.items()} == {
        0: ["model.safetensors"],
        1: [],
        2: [],
    }
    assert here.runs == {}


def test_the_best_of_each_metric_is_of_all_ended_trials(uri, tmp_path):
    metrics = [
        ["val/mse", "minimize"],
        ["val/mig", "maximize"],
        ["val/probe_100", "maximize"],
        ["val/none", "minimize"],
    ]
    # Medians over three replicas: of mse the second epoch's is least, of mig the third's greatest.
    mse = [(0.9, 0.5, 0.1), (0.9, 0.25, 0.1), (0.3, 0.4, 0.1), (float("nan"), 0.1, 0.1)]
    mig = [(0.1, 0.1, 0.1), (0.2, 0.1, 0.9), (0.1, 0.5, 0.4), (0.3, 0.3, 0.3)]
    for key, state in enumerate(["COMPLETE", "PRUNED", "FAIL", ""]):
        record = Record(tmp_path / f"{key:05d}")
        record.begin({"key": key, "params": {}, "distributions": {}, "config": "..."})
        for number, values in enumerate(zip(mse, mig, strict=True), start=1):
            named = {"train/loss": (1.0, 1.0, 1.0), "val/mse": values[0], "val/mig": values[1]}
            record.append(Epoch(number, named, 0.5, 0.25), elapsed=float(number))
        if state == "COMPLETE":
            record.finish(
                {"metrics": {"val/probe_100": (0.5, 0.75, 0.625)}, "selected_epochs": [1] * 3, "seconds": 1.0}
            )
        if state:
            record.close(state, "")
    track(uri, tmp_path, [], metrics=metrics)
    client = MlflowClient(uri)
    _, *children = runs(uri)
    both = {"best/val/mse": 0.25, "best/val/mig": 0.4}
    found = [{name: v for name, v in run.data.metrics.items() if name.startswith("best/")} for run in children]
    assert found == [both | {"best/val/probe_100": 0.625}, both, both, {}]
    [point] = client.get_metric_history(children[1].info.run_id, "best/val/mse")
    assert (point.step, point.timestamp) == (2, Record(tmp_path / "00001").history()[1]["time_ms"])


def test_an_interrupted_or_failed_trial_keeps_its_run(uri, tmp_path):
    record = Record(tmp_path / "00000")
    write_trial(tmp_path, 0, "", epochs=1)
    track(uri, tmp_path, [], status="KILLED")
    parent, child = runs(uri)
    assert (parent.info.status, child.info.status, child.data.tags["aesearch.state"]) == ("KILLED",) * 2 + (
        "INTERRUPTED",
    )
    record.close("FAIL", "it broke")
    track(uri, tmp_path, [0])
    failed = runs(uri)[1]
    assert (failed.info.status, failed.data.tags["aesearch.reason"]) == ("FAILED", "it broke")
    trial = record.read("trial.json")
    record.begin(trial, again=True)
    tracker = Tracker(uri, INFO, tmp_path)
    tracker.open()
    record.append(Epoch(2, {"train/loss": (1.0,), "val/mse": (0.5,)}, 0.5, 0.25), elapsed=2.0)
    tracker.notify(0)
    deadline = time.monotonic() + 20
    while runs(uri)[1].info.status != "RUNNING" or "aesearch.reason" in runs(uri)[1].data.tags:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    record.close("PRUNED", "")
    tracker.notify(0)
    tracker.close("FINISHED")
    [last] = runs(uri)[1:]
    assert (last.info.run_id, last.info.status) == (child.info.run_id, "KILLED")
    assert (last.data.tags["aesearch.state"], "aesearch.reason" in last.data.tags) == ("PRUNED", False)
    assert [p.step for p in MlflowClient(uri).get_metric_history(last.info.run_id, "val/mse")] == [1, 2]


def test_a_study_begun_afresh_has_runs_of_its_own(uri, tmp_path):
    write_trial(tmp_path / "old", 0, "FAIL", epochs=0, reason="old")
    write_trial(tmp_path / "new", 0, "COMPLETE")
    track(uri, tmp_path / "old", [0])
    track(uri, tmp_path / "new", [0], identity="def")
    assert read_study(uri, "s").trials["state"].tolist() == ["COMPLETE"]
    assert len(runs(uri)) == 4


def test_the_newest_study_is_the_last_begun_by_any_clock(uri, tmp_path, monkeypatch):
    write_trial(tmp_path / "old", 0, "FAIL", epochs=0, reason="old")
    track(uri, tmp_path / "old", [0])
    five_hours_ago(monkeypatch)
    write_trial(tmp_path / "new", 0, "COMPLETE")
    track(uri, tmp_path / "new", [0], identity="def")
    old, new = runs(uri)[::2][::-1]
    assert new.info.start_time < old.info.start_time
    assert read_study(uri, "s").trials["state"].tolist() == ["COMPLETE"]


def test_epochs_stay_in_order_while_the_clock_is_back(uri, tmp_path, monkeypatch):
    write_trial(tmp_path, 0, "", epochs=2)
    track(uri, tmp_path, [0], status="KILLED")
    five_hours_ago(monkeypatch)
    record = Record(tmp_path / "00000")
    record.append(Epoch(3, {"train/loss": (1.0, 1.0, 1.0), "val/mse": (0.1, 0.1, 0.1)}, 0.5, 0.25), elapsed=3.0)
    record.finish({"metrics": {"val/mse": (0.1, 0.1, 0.1)}, "selected_epochs": [3, 3, 3], "seconds": 3.5})
    record.close("COMPLETE", "")
    tracker = track(uri, tmp_path, [0])
    assert tracker.sender.send(0) == 0, "nothing is missing"
    [run] = [run for run in runs(uri) if "aesearch.trial" in run.data.tags]
    assert (run.info.status, run.data.metrics["val/mse"]) == ("FINISHED", 0.1)
    curve = MlflowClient(uri).get_metric_history(run.info.run_id, "val/mse")
    times = {point.step: point.timestamp for point in curve}
    assert sorted(times) == [1, 2, 3]
    assert times[3] < times[1], "the clock did go back"
    results = read_study(uri, "s")
    assert results.history["epoch"].unique().tolist() == [1, 2, 3]
    assert results.trials["state"].tolist() == ["COMPLETE"]


def test_a_store_that_is_lost_on_the_way_is_sent_later(uri, in_tmp):
    records = in_tmp / "records"
    tracker = Tracker(uri, INFO, records)
    tracker.open()
    folder = in_tmp / "mlruns"
    folder.rename(in_tmp / "elsewhere")
    folder.write_text("in the place of the artifacts")
    write_trial(records, 0, "COMPLETE")
    tracker.notify(0)
    started = time.monotonic()
    tracker.close("KILLED")
    assert time.monotonic() - started < 5
    assert (tracker.missing, "Not a directory" in tracker.problem) == (1, True)
    folder.unlink()
    (in_tmp / "elsewhere").rename(folder)
    track(uri, records, [])
    assert read_study(uri, "s").trials["state"].tolist() == ["COMPLETE"]


def test_a_trial_that_mlflow_refuses_holds_no_other_up(uri, in_tmp):
    write_trial(in_tmp / "trials", 0, "COMPLETE")
    history = in_tmp / "trials" / "00000" / "history.jsonl"
    history.write_text(history.read_text().replace("val/mse", "val/100%"))
    write_trial(in_tmp / "trials", 1, "COMPLETE")
    tracker = Tracker(uri, INFO, in_tmp / "trials")
    tracker.open()
    tracker.close("KILLED")
    assert tracker.missing == 1
    assert 'Invalid value "val/100%"' in tracker.problem
    assert [run.info.status for run in runs(uri)] == ["KILLED", "RUNNING", "FINISHED"]


def test_unknown_stores_and_names_are_one_line(missing_uri, in_tmp):
    uri = missing_uri
    with pytest.raises(UserError, match=r"there is no MLflow store .*mlflow\.db"):
        read_study(uri, "s")
    track(uri, in_tmp, [])
    with pytest.raises(UserError, match=r"there is no study 'z' in sqlite:.*mlflow\.db: known: s"):
        read_study(uri, "z")


def test_a_deleted_experiment_is_said_with_the_cure(uri, in_tmp):
    track(uri, in_tmp, [])
    client = MlflowClient(uri)
    client.delete_experiment(client.get_experiment_by_name("s").experiment_id)
    with pytest.raises(UserError, match="mlflow experiments restore -x 1"):
        Tracker(uri, INFO, in_tmp).open()


def test_the_knee_has_a_version_per_run_and_the_alias(uri, in_tmp):
    write_trial(in_tmp / "trials", 0, "COMPLETE")
    write_trial(in_tmp / "trials", 1, "COMPLETE")
    track(uri, in_tmp / "trials", [])
    client, (_, *children) = MlflowClient(uri), runs(uri)
    for key in (0, 0, 1, 0):
        assert register_model(uri, "s", children[key].info.run_id, key, "knee") == ""
        knee = client.get_model_version_by_alias("s", "knee")
        assert (knee.run_id, knee.tags) == (children[key].info.run_id, {"aesearch.trial": str(key)})
    assert len(client.search_model_versions("name='s'")) == 2
    remark = register_model(uri, "s", "0" * 32, 0, "knee")
    assert remark.startswith(f"the model of trial 0 is not registered in {uri}: ")


def test_a_trials_model_is_served_by_mlflow(uri, tmp_path):
    """What ``mlflow.pyfunc.load_model`` and ``mlflow models predict`` say is what the model says."""
    import json

    import mlflow
    import numpy as np
    from helpers.doc_blocks import blocks
    from helpers.small import TINY

    from aesearch.model import load_model
    from aesearch.model.artifacts import save_artifacts
    from aesearch.networks import MLP
    from aesearch.objectives import VAE
    from aesearch.train import TrainConfig, train

    config = TrainConfig(TINY, MLP((8,)), 3, VAE(), replicas=1, epochs=1)
    data = TINY.load(tmp_path / "data")
    record = Record(tmp_path / "trials" / "00000")
    record.begin({"key": 0, "params": {"beta": 0.5}, "distributions": {"beta": FLOAT}, "config": "..."})
    for epoch in train(config, data):
        record.append(epoch, elapsed=1.0)
    save_artifacts(record.artifacts, config, epoch.result, data)
    record.finish({"metrics": epoch.result.metrics, "selected_epochs": [1], "seconds": 1.0})
    record.close("COMPLETE", "")
    track(uri, tmp_path / "trials", [0])
    (run,) = [run for run in runs(uri) if run.data.tags.get("aesearch.trial") == "0"]
    mlflow.set_tracking_uri(uri)
    served = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    model, images = load_model(record.artifacts), np.array(data.images[:5], np.float32) / 255
    assert served.metadata.signature.inputs.inputs[0].shape == (-1, 1, 16, 16)
    np.testing.assert_array_equal(served.predict(images), model.reconstruct(images))
    np.testing.assert_array_equal(served.predict(images, params={"output": "code"}), model.encode(images))
    np.testing.assert_array_equal(served.predict(images, params={"output": "error"}), model.score(images)["error"])
    with pytest.raises(UserError, match="did you mean code"):
        served.predict(images, params={"output": "cod"})
    assert register_model(uri, "s", run.info.run_id, 0, "knee") == ""
    assert register_model(uri, "s", run.info.run_id, 0, "knee") == ""
    knee = mlflow.pyfunc.load_model("models:/s@knee")
    np.testing.assert_array_equal(knee.predict(images), served.predict(images))
    assert register_model(uri, "beta_sweep", run.info.run_id, 0, "knee") == ""
    for code in (blocks("docs/mlflow.md")[0].code, blocks("docs/use.md")[1].code):
        exec(code, {"images": images, "run_id": run.info.run_id})
    (tmp_path / "in.json").write_text(json.dumps({"inputs": images.tolist()}))
    folder = tmp_path / "trials" / "00000" / "artifacts"
    options = ["-m", str(folder), "-i", "in.json", "-o", "out.json", "--env-manager", "local", "-t", "json"]
    subprocess.run([sys.executable, "-m", "mlflow", "models", "predict", *options], cwd=tmp_path, check=True)
    predicted = np.array(json.loads((tmp_path / "out.json").read_text())["predictions"])
    np.testing.assert_allclose(predicted, model.reconstruct(images), atol=1e-6)
