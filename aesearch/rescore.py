"""Scores of kept models: metrics measured again or for the first time.

Nothing is trained.
"""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aesearch.datasets import Data, Dataset
from aesearch.errors import UserError, nearest
from aesearch.model import read_model, restore
from aesearch.objectives import Objective
from aesearch.protocols import METRICS, Protocol, ready
from aesearch.records.results import Results
from aesearch.rights import shared_files
from aesearch.scores import (
    PCA,
    UDR,
    Comparison,
    Disentanglement,
    Frechet,
    Likelihood,
    ModelCentrality,
    Quality,
    Reference,
    Score,
    Trained,
    measure,
    protocols,
    references,
)
from aesearch.scores.measuring import mean_reference, version_of
from aesearch.train import TrainConfig, replica_seed

# What --metric names beside the metrics of protocols.
OTHERS: Mapping[str, Score | Comparison] = {
    "udr": UDR(),
    "model_centrality": ModelCentrality(),
    "likelihood": Likelihood(),
    "frechet": Frechet(),
    "quality": Quality(),
    "pca": PCA(),
}
# What the metrics of all models of a study begin with.
ACROSS = "study."


def _later(score: Score | Comparison) -> str:
    """Prefix of the metrics of a version, such as ``v2``."""
    return f"v{score.estimator}"


@dataclass(frozen=True)
class _LaterScore(Score):
    """A score whose metrics have its version in their names."""

    score: Score

    @property
    def splits(self) -> tuple[str, ...]:
        return self.score.splits

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{_later(self.score)}.{name}" for name in self.score.names)

    def names_for(self, data: Dataset, objective: Objective) -> tuple[str, ...]:
        return tuple(f"{_later(self.score)}.{name}" for name in self.score.names_for(data, objective))

    def check(self, data: Dataset, objective: Objective) -> None:
        self.score.check(data, objective)

    def measure(self, trained: Trained, split: str) -> Mapping[str, float]:
        return {f"{_later(self.score)}.{name}": value for name, value in self.score.measure(trained, split).items()}


@dataclass(frozen=True)
class _LaterComparison(Comparison):
    """The same for a comparison."""

    comparison: Comparison

    @property
    def splits(self) -> tuple[str, ...]:
        return self.comparison.splits

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{_later(self.comparison)}.{name}" for name in self.comparison.names)

    def check(self, data: Dataset, objective: Objective) -> None:
        self.comparison.check(data, objective)

    def compare(self, models: Sequence[Trained], split: str) -> Mapping[str, tuple[float, ...]]:
        found = self.comparison.compare(models, split)
        return {f"{_later(self.comparison)}.{name}": values for name, values in found.items()}

    def floors(self, models: Sequence[Trained], split: str) -> Mapping[str, tuple[Reference, ...]]:
        found = self.comparison.floors(models, split)
        return {f"{_later(self.comparison)}.{name}": each for name, each in found.items()}


@dataclass(frozen=True)
class Task:
    """Trial whose model is to be scored.

    study: its file and the trial's parameters, where it has types of its own, or None.
    """

    key: int
    folder: Path
    data: Path
    scores: tuple[Score, ...]
    study: tuple[Path, Mapping[str, Any]] | None = None


def chosen(
    metrics: Sequence[str], protocol: str, known: Mapping[str, Mapping[str, Any]], columns: Collection[str] = ()
) -> list[Score | Comparison]:
    """Find the scores and comparisons that the names on the command line mean.

    Raises UserError for unknown names.
    known: the protocols that the study has figures of. Where one has the name, but is not the same (an estimator has
    changed since), the new figures get the hash into their names: they never share a column with the old ones.
    columns: the metrics that the study has. Those of a score without a protocol get its version into their names in the
    same way.
    """
    for metric in metrics:
        if metric not in METRICS and metric not in OTHERS:
            raise UserError(f"unknown metric {metric!r}: {nearest(metric, [*METRICS, *OTHERS])}")
    wanted = ready(protocol)
    if known.get(wanted.name, {}).get("hash", wanted.hash) != wanted.hash:
        wanted = replace(wanted, name=f"{wanted.name}-{wanted.hash}")
    of_protocol = tuple(metric for metric in metrics if metric in METRICS)
    found: list[Score | Comparison] = [_under(wanted, of_protocol)] if of_protocol else []
    others = (OTHERS[metric] for metric in metrics if metric in OTHERS)
    return found + [_versioned(score, known, columns) for score in others]


def _versioned(
    score: Score | Comparison, known: Mapping[str, Mapping[str, Any]], columns: Collection[str]
) -> Score | Comparison:
    """Rename the metrics of a score where the study has some of another version."""
    across = isinstance(score, Comparison)
    names = {f"{ACROSS}{name}" if across else name for name in score.names}
    before = names & {column.rpartition("/")[2] for column in columns}
    (version,) = version_of(score, ())
    if score.estimator == 1 or not before or names & {*known.get(version, {}).get("measured", ())}:
        return score
    return _LaterComparison(score) if isinstance(score, Comparison) else _LaterScore(score)


def _under(protocol: Protocol, metrics: tuple[str, ...]) -> Disentanglement:
    return Disentanglement(tuple(dict.fromkeys(metrics)), protocol)


def rescore(
    results: Results, scores: Sequence[Score], data: Path, workers: int, study: Path | None
) -> Iterator[tuple[int, dict[str, Any] | UserError]]:
    """Measure ``scores`` of each complete trial's model; give key and scores.json.

    Trials come in the order in which they end.
    Trials come in the order in which they end.
    What a trial has already is not measured again. study: its file, needed where it defines types of its own.
    A trial whose model cannot be read, or cannot have a score, gives the reason. Raises UserError where all are so.
    """
    tasks = [task for task in _tasks(results, scores, data, study) if task.scores]
    if not tasks:
        return
    failures: list[UserError] = []
    with ProcessPoolExecutor(min(workers, len(tasks)), get_context("spawn"), _one_thread) as pool:
        futures = {pool.submit(score_trial, task): task.key for task in tasks}
        try:
            for future in as_completed(futures):
                try:
                    yield futures[future], future.result()
                except UserError as error:
                    failures.append(error)
                    yield futures[future], error
        except BrokenProcessPool as error:
            raise UserError("a process ended, killed or out of memory; write --workers 1") from error
        finally:
            pool.shutdown(cancel_futures=True)
    if len(failures) == len(tasks):
        raise failures[0]


def _one_thread() -> None:
    """Limit this process to one thread.

    Two processes of two threads each on two cores are many times slower than of one each.
    """
    torch.set_num_threads(1)


def _tasks(results: Results, scores: Sequence[Score], data: Path, study: Path | None) -> Iterator[Task]:
    trials = results.trials[results.trials["state"] == "COMPLETE"].set_index("trial")
    for key, row in trials.iterrows():
        params = {
            str(name).removeprefix("param:"): value
            for name, value in row.items()
            if str(name).startswith("param:") and value == value
        }
        has = {str(name) for name, value in row.items() if value == value}
        lacking = tuple(score for score in scores if not _names(score) <= has)
        own = (study, params) if study else None
        yield Task(int(str(key)), results.pictures[int(str(key))], data, lacking, own)


def _names(score: Score | Comparison) -> set[str]:
    return {f"{split}/{name}" for split in score.splits for name in score.names}


def score_trial(task: Task) -> dict[str, Any]:
    """Measure the metrics of one trial's model, a value per replica.

    Their references and protocols come with them.
    """
    config, trained = load(task.folder, task.data, task.study)
    for score in task.scores:
        config.check_score(score)
    return {
        "metrics": measure(task.scores, trained),
        "references": references(task.scores, trained),
        "protocols": protocols(task.scores),
    }


def load(
    folder: Path, root: Path, study: tuple[Path, Mapping[str, Any]] | None = None
) -> tuple[TrainConfig, list[Trained]]:
    """Load the configuration of a model's folder, and its replicas for scores."""
    config = _own_config(*study) if study and not _readable(folder) else None
    saved = read_model(folder, config, open_data=True)
    replicas = len(next(iter(saved.weights.values())))
    config = replace(saved.config, replicas=replicas, scores=())
    data = _data(config.data, root)
    models = [restore(config, saved.weights, replica) for replica in range(replicas)]
    names = tuple(config.data.factor_sizes)
    images = _Images(data)
    return config, [
        Trained(model, config.objective, data, images, replica_seed(config.seed, replica), names, root)
        for replica, model in enumerate(models)
    ]


@lru_cache(maxsize=1)
def _data(dataset: Dataset, root: Path) -> Data:
    """Load a data set, once for all models of a study."""
    with shared_files():
        return dataset.load(root)


def _readable(folder: Path) -> bool:
    try:
        read_model(folder)
    except UserError:
        return False
    return True


def _own_config(study: Path, params: Mapping[str, Any]) -> TrainConfig:
    """Make the configuration of a trial by the study file.

    A saved configuration cannot name types of the file.
    """
    import optuna

    from aesearch.study import load_study

    return load_study(study).config(optuna.trial.FixedTrial(dict(params)))


@dataclass(frozen=True)
class _Images:
    data: Data

    def __call__(self, index: NDArray[np.int64]) -> Tensor:
        stored = np.array(self.data.images[index])
        tensor = torch.from_numpy(stored)
        return tensor.float().div_(255) if stored.dtype == np.uint8 else tensor


def compare(
    results: Results, comparisons: Sequence[Comparison], data: Path, study: Path | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Measure ``comparisons`` of all models of a study: every replica of every trial.

    The result has the form of that of ``rescore``.
    Raises UserError where the models are not of the same data, or there are fewer than two.
    """
    if not comparisons:
        return
    keys, configs, models = [], [], []
    for task in _tasks(results, (), data, study):
        config, trained = load(task.folder, task.data, task.study)
        keys += [task.key] * len(trained)
        configs.append(config)
        models += trained
    if len(models) < 2 or len({config.data for config in configs}) > 1:
        raise UserError(
            f"a comparison needs two models or more of the same data, but got {len(models)} models of "
            f"{len({config.data for config in configs})} data sets"
        )
    found: dict[int, dict[str, tuple[float, ...]]] = {key: {} for key in keys}
    beside: dict[int, dict[str, Reference]] = {key: {} for key in keys}
    versions: dict[str, dict[str, Any]] = {}
    for comparison in comparisons:
        if comparison.estimator > 1:
            versions |= version_of(comparison, [f"{ACROSS}{name}" for name in comparison.names])
        for config in configs:
            comparison.check(config.data, config.objective)
        for split in comparison.splits:
            for name, values in comparison.compare(models, split).items():
                for key in found:
                    own = tuple(float(value) for k, value in zip(keys, values, strict=True) if k == key)
                    found[key][f"{split}/{ACROSS}{name}"] = own
            for name, each in comparison.floors(models, split).items():
                for key in beside:
                    of_trial = [one for k, one in zip(keys, each, strict=True) if k == key]
                    beside[key][f"{split}/{ACROSS}{name}"] = mean_reference(of_trial)
    for key, metrics in found.items():
        yield key, {"metrics": metrics, "references": beside[key], "protocols": versions}


def default_workers() -> int:
    """One per core."""
    return os.cpu_count() or 1
