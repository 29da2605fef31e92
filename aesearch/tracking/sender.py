"""Sender of records: MLflow gets what they hold and it lacks.

Sending is idempotent, in any order.
"""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from aesearch.discarding import DISCARDED, MODEL_FILES, is_discarded
from aesearch.errors import UserError
from aesearch.records import Record, merged
from aesearch.tracking.models import write_mlmodel
from aesearch.tracking.points import best_points, epoch_points, final_points, protocol_tags, scores_tag
from aesearch.tracking.store import (
    BEGUN_TAG,
    KEY_TAG,
    LOST,
    PARENT,
    STATE_TAG,
    STATUS,
    STUDY_TAG,
    begun,
    located,
    open_client,
    search,
    unreachable,
)

MOST_METRICS = 1000  # of one log_batch
DISCARDED_TAG = "aesearch.discarded"
REPORT_TAG = "aesearch.report"  # of a study's run, of which trials its report is
INTERRUPTED = "INTERRUPTED"  # the state of a trial that was begun and is not being run
RECORD_FILES = (
    *("trial.json", "history.jsonl", "result.json", "scores.json"),
    *("failure.json", "remarks.txt", "state.json"),
)


@dataclass
class Sender:
    """Sender of the records of a study's trials to MLflow, at once.

    Every method may raise what is in LOST.
    info: what the parent run says of the study, from ``Ledger.describe``. records: the folder of the trials' records.
    runs: the identifier of each trial's run, by key.
    earlier: how many studies of the same name MLflow had when this one was begun now; 0 where it goes on.
    """

    uri: str
    info: dict[str, Any]
    records: Path
    runs: dict[int, str] = field(default_factory=dict)
    earlier: int = 0
    _ends: dict[int, int | None] = field(default_factory=dict)
    _scores: dict[int, str] = field(default_factory=dict)
    _epochs: dict[int, int] = field(default_factory=dict)
    _discarded: set[int] = field(default_factory=set)
    _parent: str = ""
    # A run was asked for and no answer came: it may be there all the same, or come to be.
    _doubtful: bool = False

    def __post_init__(self) -> None:
        self.tags = {"aesearch.file_sha256": self.info["file_sha256"], "aesearch.version": self.info["version"]}

    def connect(self) -> set[int]:
        """Find or make the experiment and the parent run; list trials not all sent.

        Raises UserError for what time does not mend: an address that cannot be right, a deleted experiment.
        """
        self._client = open_client(self.uri)
        self._experiment = self._find_experiment()
        self._parent = self._find_parent()
        self._epochs.clear()
        self._find_runs()
        return {key for key, record in self._records().items() if not self._has(key, record)}

    def send(self, key: int) -> int:
        """Send what the record of trial ``key`` holds and MLflow lacks; count the points."""
        record = Record(self.records / f"{key:05d}")
        if not record.read("trial.json") or self._has(key, record):
            return 0
        if key not in self.runs:
            self._create_run(key)
        elif self._ends[key] == _end(record):
            if is_discarded(record.artifacts) and key not in self._discarded:
                self._discard(key, record)
            return self._send_scores(key, record)
        elif self._ends[key] is not None:
            self._reopen(key)
        return self._send_points(key, record)

    def finish(self, status: str) -> None:
        """End the parent run with ``status``, and the runs of trials not being run."""
        if self._doubtful:
            self._parent = self._find_parent()
            self._find_runs()
            self._doubtful = False
        for key, record in self._records().items():
            if key in self.runs and self._ends[key] is None and not record.read("state.json"):
                self._client.log_batch(self.runs[key], tags=[RunTag(STATE_TAG, INTERRUPTED)])
                self._client.set_terminated(self.runs[key], "KILLED", end_time=_end(record))
                self._ends[key] = _end(record)
        self._client.set_terminated(self._parent, status)

    def add_report(self, folder: Path) -> None:
        """Keep the report's files at the parent run."""
        self._client.log_artifacts(self._parent, str(folder), "report")
        # Last: a run with this tag has all files, of these trials.
        self._client.set_tag(self._parent, REPORT_TAG, self._sent())

    def has_report(self) -> bool:
        """Tell whether the parent run has a whole report of what MLflow has."""
        return str(self._client.get_run(self._parent).data.tags.get(REPORT_TAG)) == self._sent()

    def _sent(self) -> str:
        """Make a digest of what MLflow has: how each trial ended, and its scores."""
        known = [(key, self._ends[key], self._scores[key]) for key in sorted(self.runs)]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]

    def _records(self) -> dict[int, Record]:
        """All trials that were begun, by key."""
        folders = sorted(self.records.glob("[0-9]*"))
        return {int(folder.name): Record(folder) for folder in folders if (folder / "trial.json").exists()}

    def _has(self, key: int, record: Record) -> bool:
        """Tell whether MLflow has all that the record holds."""
        if self._ends.get(key) is None or self._ends[key] != _end(record):
            return False
        if is_discarded(record.artifacts) and key not in self._discarded:
            return False
        scores = record.read("scores.json")
        return not scores or self._scores[key] == scores_tag(scores).value

    def _find_experiment(self) -> str:
        name = self.info["name"]
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            # The kind makes the UI open on the table of runs and their metrics, not on language model traces.
            tags = {"mlflow.note.content": self.info["question"], "mlflow.experimentKind": "custom_model_development"}
            with suppress(MlflowException):
                self._client.create_experiment(name, tags=tags)
            # Asked again: another study's driver may have made it meanwhile, or the answer was lost.
            experiment = self._client.get_experiment_by_name(name)
            if experiment is None:
                raise MlflowException(f"the experiment {name} could not be made")
        if experiment.lifecycle_stage != "active":
            raise UserError(
                f"the MLflow experiment of a study must not be deleted, but {name} is; restore it "
                f"(mlflow experiments restore -x {experiment.experiment_id}) or give the study another name"
            )
        return str(experiment.experiment_id)

    def _find_parent(self) -> str:
        """Find the run of this study's state folder.

        A study that was begun afresh gets a run of its own.
        """
        identity = self.info["identity"]
        runs = search(self._client, self._experiment, f"tags.`{STUDY_TAG}` = '{identity}'")
        if runs:
            # That which has trials, if an answer was lost and there are two.
            kept = sorted(runs, key=lambda run: -len(self._children(run.info.run_id))) if len(runs) > 1 else runs
            parent = self._only(kept)
            self._client.update_run(parent, status="RUNNING")
        else:
            others = search(self._client, self._experiment, f"tags.`{STUDY_TAG}` LIKE '%'")
            self.earlier = len(others)
            place = 1 + max(map(begun, others), default=0)
            parent = self._make_run(self.info["name"], self.tags | {STUDY_TAG: identity, BEGUN_TAG: str(place)})
        self._client.log_dict(parent, self.info, "study.json")
        return parent

    def _find_runs(self) -> None:
        """Find the run of each trial, and how it ended."""
        found: dict[int, list[Run]] = {}
        for run in self._children(self._parent):
            found.setdefault(int(run.data.tags[KEY_TAG]), []).append(run)
        for known in (self.runs, self._ends, self._scores, self._discarded):
            known.clear()
        for key, runs in found.items():
            kept = sorted(runs, key=lambda run: (-len(run.data.metrics), run.info.start_time))
            self.runs[key] = self._only(kept)
            open_ = kept[0].info.status == "RUNNING"
            self._ends[key] = None if open_ else int(kept[0].info.end_time or 0)
            self._scores[key] = kept[0].data.tags.get("aesearch.scores", "")
            if DISCARDED_TAG in kept[0].data.tags:
                self._discarded.add(key)

    def _children(self, parent: str) -> list[Run]:
        return search(self._client, self._experiment, f"tags.`{PARENT}` = '{parent}'")

    def _only(self, runs: list[Run]) -> str:
        """Keep the first of ``runs`` of the same thing, and delete empty others.

        Those were made when an answer was lost.
        """
        for run in runs[1:]:
            if not run.data.metrics:
                self._client.delete_run(run.info.run_id)
        return str(runs[0].info.run_id)

    def _make_run(self, name: str, tags: dict[str, str]) -> str:
        try:
            return str(self._client.create_run(self._experiment, run_name=name, tags=tags).info.run_id)
        except MlflowException:
            self._doubtful = True
            raise

    def _create_run(self, key: int) -> None:
        tags = self.tags | {PARENT: self._parent, KEY_TAG: str(key), STATE_TAG: "RUNNING"}
        self.runs[key] = self._make_run(f"trial {key}", tags)
        self._ends[key], self._scores[key] = None, ""

    def _reopen(self, key: int) -> None:
        """Set the run of a trial that failed or was interrupted to running again."""
        if "aesearch.reason" in self._client.get_run(self.runs[key]).data.tags:
            self._client.delete_tag(self.runs[key], "aesearch.reason")
        self._client.log_batch(self.runs[key], tags=[RunTag(STATE_TAG, "RUNNING")])
        # Last: a run that is running has nothing left of its earlier end.
        self._client.update_run(self.runs[key], status="RUNNING")
        self._ends[key] = None

    def _send_points(self, key: int, record: Record) -> int:
        epochs, state, run = record.history(), record.read("state.json"), self.runs[key]
        first = record.read("result.json").get("first_replicas")
        points = [point for epoch in epochs[self._epochs.get(key, 0) :] for point in epoch_points(epoch, first)]
        if state:
            measured = record.measured()
            if result := record.read("result.json"):
                points += final_points(measured, epochs[-1]["epoch"], result["time_ms"])
            points += best_points(self.info["metrics"], epochs, measured, _end(record), added=first is not None)
        params = record.read("trial.json")["params"] if key not in self._epochs else {}
        _log_points(self._client, run, points, [Param(name, str(value)) for name, value in params.items()])
        self._epochs[key] = len(epochs)
        if state:
            self._end_run(key, record, state)
        return len(points)

    def _end_run(self, key: int, record: Record, state: dict[str, Any]) -> None:
        run, scores = self.runs[key], record.read("scores.json")
        for name in RECORD_FILES:
            if (record.folder / name).exists():
                self._client.log_artifact(run, str(record.folder / name))
        if any(record.artifacts.iterdir()):
            write_mlmodel(record.artifacts)
            self._client.log_artifacts(run, str(record.artifacts), "model")
        if is_discarded(record.artifacts):
            self._discard(key, record)
        tags = [RunTag(STATE_TAG, state["state"]), *protocol_tags(record.measured())]
        if state["reason"]:
            tags.append(RunTag("aesearch.reason", state["reason"][:5000]))
        if scores:
            tags.append(scores_tag(scores))
            self._scores[key] = scores_tag(scores).value
        self._client.log_batch(run, tags=tags)
        # Last: a run with this time has all of the record.
        self._client.set_terminated(run, STATUS[state["state"]], end_time=_end(record))
        self._ends[key] = _end(record)

    def _discard(self, key: int, record: Record) -> None:
        """Remove the model that the study does not keep from its run."""
        run = self.runs[key]
        address = self._client.get_run(run).info.artifact_uri
        store = get_artifact_repository(address, tracking_uri=located(self.uri))
        for name in {file.path for file in self._client.list_artifacts(run, "model")}:
            if Path(name).name in MODEL_FILES:
                store.delete_artifacts(name)  # type: ignore[no-untyped-call]
        self._client.log_artifact(run, str(record.artifacts / DISCARDED), "model")
        self._client.log_batch(run, tags=[RunTag(DISCARDED_TAG, "true")])
        self._discarded.add(key)

    def _send_scores(self, key: int, record: Record) -> int:
        """Send metrics that were measured after the trial's end.

        They stand beside those that its run has from elsewhere.
        """
        run, scores = self.runs[key], record.read("scores.json")
        if not scores or self._scores[key] == scores_tag(scores).value:
            return 0
        known: dict[str, Any] = {}
        if any(file.path == "scores.json" for file in self._client.list_artifacts(run)):
            with TemporaryDirectory() as folder:
                path = download_artifacts(
                    run_id=run, artifact_path="scores.json", tracking_uri=located(self.uri), dst_path=folder
                )
                known = json.loads(Path(path).read_text())
        count = _log_scores(self._client, run, merged(known, scores), record)
        self._client.log_batch(run, tags=[scores_tag(scores)])
        self._scores[key] = scores_tag(scores).value
        return count


def _end(record: Record) -> int:
    """Read when the trial ended, in milliseconds.

    For one that has not, read when it did the last that its record knows of.
    """
    state = record.read("state.json")
    if state:
        # Replicas that are added to a trial that has ended renew its result.
        return max(int(state["time_ms"]), int(record.read("result.json").get("time_ms", 0)))
    epochs = record.history()
    return int(epochs[-1]["time_ms"] if epochs else (record.folder / "trial.json").stat().st_mtime * 1000)


def _log_points(client: MlflowClient, run: str, points: list[Metric], params: list[Param] | None = None) -> None:
    if params:
        client.log_batch(run, params=params)
    for start in range(0, len(points), MOST_METRICS):
        client.log_batch(run, metrics=points[start : start + MOST_METRICS])


def _log_scores(client: MlflowClient, run: str, scores: dict[str, Any], record: Record) -> int:
    points = final_points(scores, record.history()[-1]["epoch"], record.read("result.json")["time_ms"])
    _log_points(client, run, points)
    client.log_batch(run, tags=protocol_tags(scores))
    # Last: a run that has the file has all of it.
    client.log_dict(run, scores, "scores.json")
    return len(points)


def add_scores(uri: str, run: str, scores: dict[str, Any], record: Record) -> None:
    """Add metrics of a trial's kept model to its run. Idempotent.

    scores: as of scores.json. record: of the trial, as MLflow has it.
    Raises UserError where the store cannot take them.
    """
    try:
        client = open_client(uri)
        _log_scores(client, run, scores, record)
        client.log_batch(run, tags=[scores_tag(scores)])
    except LOST as error:
        raise unreachable(uri, error) from None


@dataclass(frozen=True)
class Sent:
    """Count of what was sent: trials and points.

    runs: of all trials. finished: whether none is to come.
    reported: whether the study's run has the files of a report of all that. add_report: keeps them there, from a
    folder; raises UserError where the store is lost.
    """

    trials: int
    points: int
    runs: dict[int, str]
    finished: bool
    add_report: Callable[[Path], None]
    reported: bool


def send_all(uri: str, info: dict[str, Any], records: Path) -> Sent:
    """Send what MLflow lacks of a study that nobody runs.

    Raises UserError where the store cannot be reached, or is lost on the way.
    """
    sender = Sender(uri, info, records)
    finished = len(list(records.glob("[0-9]*/state.json"))) >= info["n_trials"]
    try:
        points = [sender.send(key) for key in sorted(sender.connect())]
        sender.finish("FINISHED" if finished else "KILLED")
        reported = sender.has_report()
    except LOST as error:
        raise unreachable(uri, error) from None

    def add_report(folder: Path) -> None:
        try:
            sender.add_report(folder)
        except LOST as error:
            raise unreachable(uri, error) from None

    return Sent(len(points), sum(points), dict(sender.runs), finished, add_report, reported)
