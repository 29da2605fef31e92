"""MLflow: one experiment per study, a parent run for the study, a child run per trial. The only file that imports it.

The driver writes, from the records of the trials, in a thread of its own; workers never open the database. All
points carry the time at which they were measured, so that sending one again changes nothing.
"""

import json
import logging
import os
import queue
import threading
import uuid
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from statistics import median
from typing import Any

# Read by MLflow when it is imported: no advertisements in the output, and a lost server must fail soon.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import numpy as np
import pandas as pd
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Experiment, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc import add_to_model
from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from sqlalchemy.exc import SQLAlchemyError

from aesearch.errors import UserError, nearest
from aesearch.records import Record, merged
from aesearch.results import Results

STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
LOST = (MlflowException, SQLAlchemyError, OSError)  # what a store that cannot be reached or read raises
PARENT, STUDY_TAG, KEY_TAG = "mlflow.parentRunId", "aesearch.study", "aesearch.trial"
MOST_METRICS = 1000  # of one log_batch
RECORD_FILES = (
    *("trial.json", "history.jsonl", "result.json", "scores.json"),
    *("failure.json", "remarks.txt", "state.json"),
)


def create_store(uri: str) -> None:
    """Make a missing SQLite store, once, under a lock: a half-migrated file would be lost for good."""
    if not uri.startswith("sqlite:///"):
        return
    path = Path(uri.removeprefix("sqlite:///"))
    if path.exists():
        return
    with FileLock(f"{path}.lock"):
        if not path.exists():
            # A name of its own each time: MLflow keeps the stores that it has opened, by address.
            unfinished = path.absolute().with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
            _quiet()
            MlflowClient(f"sqlite:///{unfinished}").search_experiments(max_results=1)
            unfinished.rename(path)


def _quiet() -> None:
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


@dataclass
class Tracker:
    """Sends the records of a study's trials to MLflow, off the training path.

    info: what the parent run says of the study, from ``Ledger.describe``. records: the folder of the trials'
    records. A store that is lost never stops the study: the records stay, and ``problem`` says what went wrong.
    """

    uri: str
    info: dict[str, Any]
    records: Path
    problem: str = ""
    _keys: "queue.SimpleQueue[int | None]" = field(default_factory=queue.SimpleQueue)
    _runs: dict[int, str] = field(default_factory=dict)
    _sent: dict[int, int] = field(default_factory=dict)
    _ended: set[int] = field(default_factory=set)
    _parent: str = ""
    _experiment: str = ""

    def __post_init__(self) -> None:
        _quiet()
        self.tags = {"aesearch.file_sha256": self.info["file_sha256"], "aesearch.version": self.info["version"]}
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)

    def open(self) -> None:
        """Make the store, the experiment and the parent run, or find them. Raises UserError if that fails."""
        try:
            create_store(self.uri)
            self._client = MlflowClient(self.uri)
            self._experiment = self._find_experiment()
            self._parent = self._find_parent()
            for run in _search(self._client, self._experiment, f"tags.`{PARENT}` = '{self._parent}'"):
                key = int(run.data.tags[KEY_TAG])
                self._runs[key] = run.info.run_id
                if run.info.status in STATUS.values():
                    self._ended.add(key)
        except (*LOST, ValueError) as error:
            raise UserError(f"MLflow's store must be reachable, but {self.uri}: {_first_line(error)}") from error
        self._thread.start()

    def notify(self, key: int) -> None:
        """The record of trial ``key`` has news. Returns at once."""
        self._keys.put(key)

    def close(self, status: str) -> None:
        """Send what is left and end the parent run with ``status``."""
        self._keys.put(None)
        self._thread.join()
        try:
            self._client.set_terminated(self._parent, status)
        except LOST as error:
            self.problem = _first_line(error)

    def add_report(self, folder: Path) -> None:
        """Keep the report's files at the parent run."""
        try:
            self._client.log_artifacts(self._parent, str(folder), "report")
        except LOST as error:
            self.problem = _first_line(error)

    def _find_experiment(self) -> str:
        name = self.info["name"]
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            # The kind makes the UI open on the table of runs and their metrics, not on language model traces.
            tags = {"mlflow.note.content": self.info["question"], "mlflow.experimentKind": "custom_model_development"}
            return str(self._client.create_experiment(name, tags=tags))
        if experiment.lifecycle_stage != "active":
            raise UserError(
                f"the MLflow experiment of a study must not be deleted, but {name} is; restore it "
                f"(mlflow experiments restore -x {experiment.experiment_id}) or give the study another name"
            )
        return str(experiment.experiment_id)

    def _find_parent(self) -> str:
        """The run of this study's state folder: a study that was begun afresh gets one of its own."""
        identity = self.info["identity"]
        runs = _search(self._client, self._experiment, f"tags.`{STUDY_TAG}` = '{identity}'")
        if runs:
            parent = str(runs[0].info.run_id)
            self._client.update_run(parent, status="RUNNING")
        else:
            tags = self.tags | {STUDY_TAG: identity}
            run = self._client.create_run(self._experiment, run_name=self.info["name"], tags=tags)
            parent = str(run.info.run_id)
        self._client.log_dict(parent, self.info, "study.json")
        return parent

    def _run(self) -> None:
        while (key := self._keys.get()) is not None:
            try:
                self._sync(key)
            except LOST as error:
                self.problem = _first_line(error)

    def _sync(self, key: int) -> None:
        """Send what the record of trial ``key`` holds and MLflow does not."""
        record = Record(self.records / f"{key:05d}")
        state = record.read("state.json")
        if key in self._ended:
            if state:
                return
            # A failed trial is tried again, in its own run.
            self._ended.remove(key)
            self._client.update_run(self._runs[key], status="RUNNING")
            self._client.log_batch(self._runs[key], tags=[RunTag("aesearch.state", "RUNNING")])
            self._client.delete_tag(self._runs[key], "aesearch.reason")
        if key not in self._runs:
            self._runs[key] = self._create_run(key, record.read("trial.json"))
        run = self._runs[key]
        epochs = record.history()
        points = [point for epoch in epochs[self._sent.get(key, 0) :] for point in _points(epoch)]
        result = record.read("result.json")
        if state and result:
            points += _final_points(_measured(record), epochs[-1]["epoch"], result["time_ms"])
        for start in range(0, len(points), MOST_METRICS):
            self._client.log_batch(run, metrics=points[start : start + MOST_METRICS])
        self._sent[key] = len(epochs)
        if state:
            self._end_run(run, record, state)
            self._ended.add(key)

    def _create_run(self, key: int, trial: dict[str, Any]) -> str:
        tags = self.tags | {PARENT: self._parent, KEY_TAG: str(key), "aesearch.state": "RUNNING"}
        run = self._client.create_run(self._experiment, run_name=f"trial {key}", tags=tags)
        params = [Param(name, str(value)) for name, value in trial["params"].items()]
        self._client.log_batch(run.info.run_id, params=params)
        return str(run.info.run_id)

    def _end_run(self, run: str, record: Record, state: dict[str, Any]) -> None:
        for name in RECORD_FILES:
            if (record.folder / name).exists():
                self._client.log_artifact(run, str(record.folder / name))
        if any(record.artifacts.iterdir()):
            write_mlmodel(record.artifacts)
            self._client.log_artifacts(run, str(record.artifacts), "model")
        tags = [RunTag("aesearch.state", state["state"])]
        if state["reason"]:
            tags.append(RunTag("aesearch.reason", state["reason"][:5000]))
        tags += _protocol_tags(_measured(record))
        self._client.log_batch(run, tags=tags)
        self._client.set_terminated(run, STATUS[state["state"]], end_time=state["time_ms"])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _points(epoch: dict[str, Any]) -> list[Metric]:
    """The metrics of an epoch: median, least and largest over the replicas."""
    return [
        Metric(name, value, epoch["time_ms"], epoch["epoch"])
        for metric, values in epoch["metrics"].items()
        if not metric.startswith("test/")
        for name, value in _spread(metric, values).items()
    ]


def _final_points(result: dict[str, Any], step: int, time_ms: int) -> list[Metric]:
    """The metrics of the selected epochs: ``final/val/*``, and ``test/*``, which is measured only then."""
    return [
        Metric(name, value, time_ms, step)
        for metric, values in result["metrics"].items()
        for name, value in _spread(metric if metric.startswith("test/") else f"final/{metric}", values).items()
    ]


def _protocol_tags(measured: dict[str, Any]) -> list[RunTag]:
    """The hash of each protocol, by its name."""
    known = measured.get("protocols", {})
    return [RunTag(f"aesearch.protocol.{name}", protocol["hash"]) for name, protocol in known.items()]


def add_scores(uri: str, run: str, scores: dict[str, Any], record: Record) -> None:
    """Add metrics that were measured of a trial's kept model to its run. Raises UserError where that fails.

    scores: as of scores.json. record: of the trial, as MLflow has it. Doing it again changes nothing.
    """
    try:
        client = MlflowClient(uri)
        points = _final_points(scores, record.history()[-1]["epoch"], record.read("result.json")["time_ms"])
        for start in range(0, len(points), MOST_METRICS):
            client.log_batch(run, metrics=points[start : start + MOST_METRICS])
        client.log_batch(run, tags=_protocol_tags(scores))
        # Last: a run that has the file has all of it.
        client.log_dict(run, scores, "scores.json")
    except LOST as error:
        raise UserError(f"MLflow's store must be reachable, but {uri}: {_first_line(error)}") from error


def _spread(metric: str, values: list[float]) -> dict[str, float]:
    return {metric: median(values), f"{metric}_min": min(values), f"{metric}_max": max(values)}


def _search(client: MlflowClient, experiment: str, filter_string: str) -> list[Run]:
    """All active runs of an experiment that match, the newest first."""
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs([experiment], filter_string, ViewType.ACTIVE_ONLY, max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def read_study(uri: str, name: str) -> Results:
    """The newest study of that name, from MLflow alone. Raises UserError where there is none."""
    _quiet()
    path = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not path.exists():
        raise UserError(f"there is no MLflow store {path}; run the study first, or name the store with --tracking-uri")
    try:
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            known = [found.name for found in client.search_experiments() if found.name != "Default"]
            raise UserError(f"there is no study {name!r} in {uri}: {nearest(name, known)}")
        return _read(client, experiment, uri)
    except LOST as error:
        raise UserError(f"the study {name} must be readable from {uri}, but: {_first_line(error)}") from error


def _read(client: MlflowClient, experiment: Experiment, uri: str) -> Results:
    runs = _search(client, experiment.experiment_id, "")
    parents = [run for run in runs if STUDY_TAG in run.data.tags]
    if not parents:
        raise UserError(f"the experiment {experiment.name} in {uri} must hold a study's run, but there is none")
    parent = max(parents, key=lambda run: run.info.start_time)
    info = json.loads(Path(_download(uri, parent, "study.json")).read_text())
    ended = {
        int(run.data.tags[KEY_TAG]): run
        for run in runs
        if run.data.tags.get(PARENT) == parent.info.run_id and run.data.tags["aesearch.state"] in STATUS
    }
    records = {key: Record(Path(_download(uri, ended[key], ""))) for key in sorted(ended)}
    distributions: dict[str, str] = dict(info["distributions"])
    for record in records.values():
        distributions |= record.read("trial.json")["distributions"]
    references = [row for key, record in records.items() for row in _reference_rows(key, record)]
    return Results(
        info=info,
        trials=pd.DataFrame([_trial_row(key, record, ended[key].data.tags) for key, record in records.items()]),
        replicas=pd.DataFrame([row for key, record in records.items() for row in _replica_rows(key, record)]),
        history=pd.DataFrame([row for key, record in records.items() for row in _history_rows(key, record)]),
        distributions=distributions,
        pictures={key: record.folder / "model" for key, record in records.items()},
        references=pd.DataFrame(references, columns=["trial", "metric", "floor", "ceiling"]),
        protocols=reduce(merged, map(_measured, records.values()), merged({}, {}))["protocols"],
        runs={key: str(run.info.run_id) for key, run in ended.items()},
    )


def _measured(record: Record) -> dict[str, Any]:
    """The metrics of a trial's end and of later, with their references and protocols."""
    return merged(record.read("result.json"), record.read("scores.json"))


def _reference_rows(key: int, record: Record) -> list[dict[str, Any]]:
    found = _measured(record)["references"]
    return [{"trial": key, "metric": name, "floor": f, "ceiling": c} for name, (f, c) in found.items()]


def _last(record: Record) -> tuple[dict[str, list[float]], list[int]]:
    """The final metrics of a trial and the epoch of each replica that they are of; without an end, the last epoch's."""
    result, epochs = record.read("result.json"), record.history()
    if result:
        return _measured(record)["metrics"], result["selected_epochs"]
    if epochs:
        return epochs[-1]["metrics"], [epochs[-1]["epoch"]] * len(epochs[-1]["metrics"]["train/loss"])
    return {}, []


def _trial_row(key: int, record: Record, tags: dict[str, str]) -> dict[str, Any]:
    epochs, metrics = record.history(), _last(record)[0]
    elapsed = epochs[-1]["elapsed"] if epochs else 0.0
    return {
        "trial": key,
        "state": tags["aesearch.state"],
        "epochs": len(epochs),
        "seconds": record.read("result.json").get("seconds", elapsed),
        "reason": tags.get("aesearch.reason", ""),
        "train_seconds": sum(epoch["train_seconds"] for epoch in epochs),
        "metric_seconds": sum(epoch["metric_seconds"] for epoch in epochs),
        **{f"param:{name}": value for name, value in record.read("trial.json")["params"].items()},
        **{name: value for metric, values in metrics.items() for name, value in _spread(metric, values).items()},
    }


def _replica_rows(key: int, record: Record) -> list[dict[str, Any]]:
    metrics, selected = _last(record)
    return [
        {"trial": key, "replica": r, "epoch": epoch} | {metric: values[r] for metric, values in metrics.items()}
        for r, epoch in enumerate(selected)
    ]


def _history_rows(key: int, record: Record) -> list[dict[str, Any]]:
    return [
        {"trial": key, "epoch": epoch["epoch"], "replica": r} | {name: v[r] for name, v in epoch["metrics"].items()}
        for epoch in record.history()
        for r in range(len(epoch["metrics"]["train/loss"]))
    ]


def fetch_model(uri: str, run: str) -> Path:
    """The folder of the model of an MLflow run. Raises UserError where there is none."""
    _quiet()
    try:
        return Path(download_artifacts(run_id=run, artifact_path="model", tracking_uri=uri))
    except LOST as error:
        raise UserError(f"the run {run} must have a model in {uri}, but: {_first_line(error)}") from error


def write_mlmodel(folder: Path) -> None:
    """Make the model in ``folder`` one that ``mlflow.pyfunc.load_model`` and ``mlflow models predict`` know.

    Its input is a batch of items as floats, (-1, C, H, W); its output what the parameter ``output`` names: codes,
    reconstructions or anomaly scores. No code and no pickle is stored: MLflow calls aesearch.serving.
    """
    if not (folder / "info.json").exists():
        return
    shape = json.loads((folder / "info.json").read_text())["shape"]
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(np.float32), (-1, *shape))]),
        Schema([TensorSpec(np.dtype(np.float32), (-1, *((-1,) * len(shape))))]),
        ParamSchema([ParamSpec("output", DataType.string, "reconstruction")]),
    )
    model = Model(signature=signature)
    add_to_model(model, loader_module="aesearch.serving", data=".")  # type: ignore[no-untyped-call]
    model.save(str(folder / "MLmodel"))


def _download(uri: str, run: Run, path: str) -> str:
    return str(download_artifacts(run_id=run.info.run_id, artifact_path=path, tracking_uri=uri))
