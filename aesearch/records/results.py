"""Results: what the trials of a study left, as tables.

They are made of records, from MLflow or from this machine.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from aesearch.records import Record, merged

REFERENCE = ("trial", "metric", "floor", "ceiling", "spread")


@dataclass(frozen=True)
class Results:
    """The data of a study that its report needs.

    info: name, question, metrics ([name, direction] pairs), kinds (what the metrics of the study's own scores are),
    n_trials, seed, version, and how it was run.
    trials: a row per trial: trial, state, epochs, seconds, reason, ``param:*`` columns, and per metric its median
    over replicas with ``_min`` and ``_max``.
    replicas: a row per trial and replica: trial, replica, epoch (the selected one), a column per metric.
    history: a row per trial, epoch and replica: trial, epoch, replica, a column per metric.
    distributions: the swept parameters' distributions as Optuna's JSON, in the order of the space.
    pictures: the folder of each trial's model and pictures, by trial.
    references: a row per trial and metric that has them: trial, metric, floor (of noise), ceiling, spread (the
    standard deviation of a draw of the floor; NaN where it is of one draw).
    protocols: what each protocol is, by its name; ``measured`` are its metrics, without a split.
    runs: MLflow's identifier of each trial's run; empty where the records were read as they lie here.
    """

    info: Mapping[str, Any]
    trials: pd.DataFrame
    replicas: pd.DataFrame
    history: pd.DataFrame
    distributions: Mapping[str, str]
    pictures: Mapping[int, Path]
    references: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(REFERENCE)))
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    runs: Mapping[int, str] = field(default_factory=dict)


def from_records(
    info: Mapping[str, Any], records: Mapping[int, Record], models: str, runs: Mapping[int, str] | None = None
) -> Results:
    """Make the results of a study from the records of its ended trials, by key.

    models: name of the model's folder in each record. runs: identifiers of MLflow's runs, by key.
    """
    distributions: dict[str, str] = dict(info["distributions"])
    trials: list[dict[str, Any]] = []
    replicas: list[dict[str, Any]] = []
    history: list[dict[str, Any]] = []
    references: list[dict[str, Any]] = []
    protocols = merged({}, {})
    for key, record in records.items():
        read = _Read(record)
        distributions |= read.trial["distributions"]
        trials.append(_trial_row(key, read))
        replicas += _replica_rows(key, read)
        history += _history_rows(key, read)
        references += _reference_rows(key, read)
        protocols = merged(protocols, {"protocols": read.measured["protocols"]})
    return Results(
        info=info,
        trials=pd.DataFrame(trials),
        replicas=pd.DataFrame(replicas),
        history=pd.DataFrame(history),
        distributions=distributions,
        pictures={key: record.folder / models for key, record in records.items()},
        references=pd.DataFrame(references, columns=list(REFERENCE)),
        protocols=protocols["protocols"],
        runs=runs or {},
    )


def local_results(folder: Path) -> Results:
    """Read the results of a study from its state ``folder`` alone.

    Neither MLflow nor the study file is needed.
    """
    records = {int(path.name): Record(path) for path in sorted((folder / "trials").glob("[0-9]*"))}
    ended = {key: record for key, record in records.items() if record.read("state.json")}
    return from_records(json.loads((folder / "study.json").read_text()), ended, "artifacts")


def spread(metric: str, values: list[float]) -> dict[str, float]:
    """Take median, least and largest over the replicas, by name.

    All are NaN where one replica is NaN.
    """
    # NumPy takes most of its time to make arrays of a few values, of which a study has a hundred thousand.
    ordered = sorted(map(float, values)) if all(value == value for value in values) else [math.nan]
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return {metric: middle, f"{metric}_min": ordered[0], f"{metric}_max": ordered[-1]}


class _Read:
    """Contents of a record's files, each read once: a study may have thousands."""

    def __init__(self, record: Record) -> None:
        self.trial, self.state, self.result = (record.read(f"{name}.json") for name in ("trial", "state", "result"))
        self.history = record.history()
        self.measured = merged(self.result, record.read("scores.json"))


def _reference_rows(key: int, read: _Read) -> list[dict[str, Any]]:
    found = read.measured["references"]
    # Floors of earlier releases are of one draw, so they have no spread.
    return [dict(zip(REFERENCE, (key, name, *each, math.nan), strict=False)) for name, each in found.items()]


def _last(read: _Read) -> tuple[dict[str, list[float]], list[int]]:
    """Find the metrics of a trial and the epoch of each replica that they are of.

    They are the final ones, or those of the last epoch where the trial did not complete.
    """
    if read.result:
        return read.measured["metrics"], read.result["selected_epochs"]
    if read.history:
        last = read.history[-1]
        return last["metrics"], [last["epoch"]] * len(last["metrics"]["train/loss"])
    return {}, []


def _trial_row(key: int, read: _Read) -> dict[str, Any]:
    elapsed = read.history[-1]["elapsed"] if read.history else 0.0
    return {
        "trial": key,
        "state": read.state["state"],
        "epochs": len(read.history),
        "seconds": read.result.get("seconds", elapsed),
        "reason": read.state["reason"],
        "train_seconds": sum(epoch["train_seconds"] for epoch in read.history),
        "metric_seconds": sum(epoch["metric_seconds"] for epoch in read.history),
        **{f"param:{name}": value for name, value in read.trial["params"].items()},
        **{name: value for metric, values in _last(read)[0].items() for name, value in spread(metric, values).items()},
    }


def _replica_rows(key: int, read: _Read) -> list[dict[str, Any]]:
    metrics, selected = _last(read)
    return [
        {"trial": key, "replica": r, "epoch": epoch} | {metric: values[r] for metric, values in metrics.items()}
        for r, epoch in enumerate(selected)
    ]


def _history_rows(key: int, read: _Read) -> list[dict[str, Any]]:
    return [
        {"trial": key, "epoch": epoch["epoch"], "replica": r} | {name: v[r] for name, v in epoch["metrics"].items()}
        for epoch in read.history
        for r in range(len(epoch["metrics"]["train/loss"]))
    ]
