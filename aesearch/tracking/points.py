"""Points and tags of MLflow, made from a trial's record.

Nothing here asks a store.
"""

import hashlib
import json
from statistics import median
from typing import Any

import numpy as np
from mlflow.entities import Metric, RunTag

from aesearch.records.results import spread


def epoch_points(epoch: dict[str, Any], replicas: int | None) -> list[Metric]:
    """Make the points of an epoch: median, least and largest of each metric.

    They are over the first ``replicas``, or over all.
    Replicas that are added later do not move the curves: what was sent once stays as it is.
    """
    return [
        Metric(name, value, epoch["time_ms"], epoch["epoch"])
        for metric, values in epoch["metrics"].items()
        if not metric.startswith("test/")
        for name, value in spread(metric, values[:replicas]).items()
    ]


def final_points(measured: dict[str, Any], step: int, time_ms: int) -> list[Metric]:
    """Make the points of the selected epochs: ``final/val/*``, and ``test/*``.

    Test is measured only then.
    """
    return [
        Metric(name, value, time_ms, step)
        for metric, values in measured["metrics"].items()
        for name, value in spread(metric if metric.startswith("test/") else f"final/{metric}", values).items()
    ]


def best_points(
    searched: list[list[str]], epochs: list[dict[str, Any]], measured: dict[str, Any], time_ms: int, added: bool
) -> list[Metric]:
    """Make ``best/*``: of each searched metric the best median of all epochs.

    The median is over replicas; the step is its epoch.
    searched: [name, direction] pairs. A metric that is measured only at the end has its value of then, at ``time_ms``.
    Where replicas were ``added``, all are at the last epoch: of two points MLflow calls that of the higher step latest.
    """
    found = []
    for name, direction in searched:
        lines = [(line["metrics"].get(name), line["time_ms"], line["epoch"]) for line in epochs]
        if added:
            lines = [(values, time_ms, epochs[-1]["epoch"]) for values, _, _ in lines]
        if epochs and not any(values for values, _, _ in lines):
            lines = [(measured["metrics"].get(name), time_ms, epochs[-1]["epoch"])]
        points = [
            Metric(f"best/{name}", median(v), when, step) for v, when, step in lines if v and np.isfinite(v).all()
        ]
        sign = 1 if direction == "minimize" else -1
        found += sorted(points, key=lambda point: sign * point.value)[:1]
    return found


def protocol_tags(measured: dict[str, Any]) -> list[RunTag]:
    """Map each protocol's tag to its hash."""
    known = measured.get("protocols", {})
    return [RunTag(f"aesearch.protocol.{name}", protocol["hash"]) for name, protocol in known.items()]


def scores_tag(scores: dict[str, Any]) -> RunTag:
    """Says which scores.json a run has, so that an equal one need not be sent again."""
    return RunTag("aesearch.scores", hashlib.sha256(json.dumps(scores, sort_keys=True).encode()).hexdigest()[:16])
