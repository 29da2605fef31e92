"""Measurement of all scores of the replicas of a trial."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from aesearch.scores.comparisons import Comparison
from aesearch.scores.disentanglement import CodeScore
from aesearch.scores.score import Reference, Score, Trained


def measure(scores: Sequence[Score | Comparison], replicas: Sequence[Trained]) -> dict[str, tuple[float, ...]]:
    """Measure each metric, a value per replica, named ``split/metric``."""
    found: dict[str, tuple[float, ...]] = {}
    for score in scores:
        for split in score.splits:
            if isinstance(score, Comparison):
                values = score.compare(replicas, split)
            else:
                each = [score.measure(replica, split) for replica in replicas]
                values = {name: tuple(one[name] for one in each) for name in score.names if name in each[0]}
            found |= {f"{split}/{name}": tuple(map(float, values[name])) for name in score.names if name in values}
    return found


def references(scores: Sequence[Score | Comparison], replicas: Sequence[Trained]) -> dict[str, Reference]:
    """Measure floor and ceiling of metrics that have them, named ``split/metric``.

    Those of metrics on codes are the same for all replicas. Those of a comparison are means over them.
    """
    found: dict[str, Reference] = {}
    for score in scores:
        for split in score.splits:
            if isinstance(score, CodeScore):
                each = score.references(replicas[0], split)
            elif isinstance(score, Comparison) and len(replicas) > 1:
                each = {name: mean_reference(of) for name, of in score.floors(replicas, split).items()}
            else:
                continue
            found |= {f"{split}/{name}": reference for name, reference in each.items()}
    return found


def mean_reference(each: Sequence[Reference]) -> Reference:
    """Average the references of the replicas of a trial."""
    return Reference(*(float(np.mean(values)) for values in zip(*each, strict=True)))


def protocols(scores: Sequence[Score | Comparison]) -> dict[str, dict[str, Any]]:
    """Describe the protocols of the scores by name, as plain JSON.

    The entry ``measured`` lists the metrics of a protocol.
    """
    found: dict[str, dict[str, Any]] = {}
    for score in scores:
        if isinstance(score, CodeScore):
            known = found.setdefault(score.protocol.name, score.protocol.describe() | {"measured": []})
            known["measured"] += score.names
        elif score.estimator > 1:
            found |= version_of(score, score.names)
    return found


def version_of(score: Score | Comparison, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Note the version of a score without a protocol, and the names it measured."""
    version = f"{type(score).__name__}-{score.estimator}"
    return {version: {"hash": version, "estimators": score.estimator, "measured": list(names)}}
