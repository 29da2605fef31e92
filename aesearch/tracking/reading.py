"""A study from MLflow alone: its runs' files are the records of its trials."""

import json
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Experiment, Run
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from aesearch.errors import UserError, nearest
from aesearch.records import Record
from aesearch.records.results import Results, from_records
from aesearch.tracking.addresses import shown
from aesearch.tracking.store import (
    KEY_TAG,
    LOST,
    PARENT,
    SQLITE,
    STATE_TAG,
    STATUS,
    STUDY_TAG,
    begun,
    first_line,
    located,
    open_client,
    search,
)


def read_study(uri: str, name: str) -> Results:
    """Read the newest study of that name, from MLflow alone.

    Raises UserError where there is none.
    """
    path = Path(shown(uri).removeprefix(SQLITE))
    if uri.startswith(SQLITE) and not path.exists():
        raise UserError(f"there is no MLflow store {path}; run the study first, or name the store with --tracking-uri")
    try:
        client = open_client(uri)
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            known = [found.name for found in client.search_experiments() if found.name != "Default"]
            raise UserError(f"there is no study {name!r} in {shown(uri)}: {nearest(name, known)}")
        return _read(client, experiment, uri)
    except UserError:
        raise
    except LOST as error:
        raise UserError(f"the study {name} must be readable from {shown(uri)}, but: {first_line(error, uri)}") from None


def _read(client: MlflowClient, experiment: Experiment, uri: str) -> Results:
    runs = search(client, experiment.experiment_id, "")
    parents = [run for run in runs if STUDY_TAG in run.data.tags]
    if not parents:
        raise UserError(f"the experiment {experiment.name} in {shown(uri)} must hold a study's run, but there is none")
    parent = max(parents, key=begun)
    ended = {
        int(run.data.tags[KEY_TAG]): run
        for run in runs
        if run.data.tags.get(PARENT) == parent.info.run_id and run.data.tags[STATE_TAG] in STATUS
    }
    info = json.loads(Path(_download(uri, parent, "study.json")).read_text())
    records = {key: Record(Path(_download(uri, ended[key], ""))) for key in sorted(ended)}
    return from_records(info, records, "model", {key: str(run.info.run_id) for key, run in ended.items()})


def _download(uri: str, run: Run, path: str) -> str:
    # By its address: MLflow would ask for the run again, with all its metrics.
    store = get_artifact_repository(run.info.artifact_uri, tracking_uri=located(uri))
    return str(store.download_artifacts(path))  # type: ignore[no-untyped-call]
