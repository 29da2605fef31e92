"""Measurement of all scores of the replicas of a trial."""

from collections.abc import Sequence
from typing import Any

from aesearch.scores.comparisons import Comparison
from aesearch.scores.disentanglement import CodeScore, Reference
from aesearch.scores.score import Score, Trained


def measure(scores: Sequence[Score | Comparison], replicas: Sequence[Trained]) -> dict[str, tuple[float, ...]]:
    """Measure each metric, a value per replica, named ``split/metric``."""
    found: dict[str, tuple[float, ...]] = {}
    for score in scores:
        for split in score.splits:
            if isinstance(score, Comparison):
                values = score.compare(replicas, split)
            else:
                each = [score.measure(replica, split) for replica in replicas]
                names = score.names_for(replicas[0].objective)
                values = {name: tuple(one[name] for one in each) for name in names}
            found |= {f"{split}/{name}": tuple(map(float, each)) for name, each in values.items()}
    return found


def references(scores: Sequence[Score | Comparison], trained: Trained) -> dict[str, Reference]:
    """Measure floor and ceiling of metrics that have them, named ``split/metric``.

    They are the same for all replicas.
    """
    return {
        f"{split}/{name}": reference
        for score in scores
        if isinstance(score, CodeScore)
        for split in score.splits
        for name, reference in score.references(trained, split).items()
    }


def protocols(scores: Sequence[Score | Comparison]) -> dict[str, dict[str, Any]]:
    """Describe the protocols of the scores by name, as plain JSON.

    The entry ``measured`` lists the metrics of a protocol.
    """
    found: dict[str, dict[str, Any]] = {}
    for score in scores:
        if isinstance(score, CodeScore):
            known = found.setdefault(score.protocol.name, score.protocol.describe() | {"measured": []})
            known["measured"] += score.names
    return found
