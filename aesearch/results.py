"""What a study left, as plain tables: what tracking reads from MLflow and the report writes down."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Results:
    """All of a study that its report needs.

    info: name, question, metrics ([name, direction] pairs), n_trials, seed, version, and how it was run.
    trials: a row per trial: trial, state, epochs, seconds, reason, ``param:*`` columns, and per metric its median
    over replicas with ``_min`` and ``_max``.
    replicas: a row per trial and replica: trial, replica, epoch (the selected one), a column per metric.
    history: a row per trial, epoch and replica: trial, epoch, replica, a column per metric.
    distributions: the swept parameters' distributions as Optuna's JSON, in the order of the space.
    pictures: the folder of each trial's model and pictures, by trial.
    references: a row per trial and metric that has a protocol: trial, metric, floor (of noise as codes), ceiling (of
    the factors as codes).
    protocols: what each protocol is, by its name; ``measured`` are its metrics, without a split.
    runs: MLflow's identifier of each trial's run.
    """

    info: Mapping[str, Any]
    trials: pd.DataFrame
    replicas: pd.DataFrame
    history: pd.DataFrame
    distributions: Mapping[str, str]
    pictures: Mapping[int, Path]
    references: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=["trial", "metric", "floor", "ceiling"])
    )
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    runs: Mapping[int, str] = field(default_factory=dict)
