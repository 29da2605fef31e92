"""Checks that every metric of a score is described.

A report then need not guess which direction is better.
"""

from collections.abc import Iterable
from inspect import isabstract, isclass

from aesearch.errors import UserError
from aesearch.metrics.registry import KINDS, find_metric
from aesearch.scores.comparisons import Comparison
from aesearch.scores.disentanglement import MEASURES
from aesearch.scores.score import Score


def check_declared(score: Score | Comparison) -> None:
    """Raise UserError for a metric of ``score`` that no MetricKind describes.

    Raises it also for a kind that has the name of another metric.
    """
    of = type(score).__name__
    for kind in score.kinds:
        if KINDS.get(kind.name, kind) != kind:
            raise UserError(f"{of} describes {kind.name!r}, which is a metric of aesearch; give its own another name")
    for name in score.names:
        if find_metric(name, score.kinds) is None:
            raise UserError(
                f"{of} measures {name!r}, which no MetricKind describes; write in {of}: kinds = (MetricKind({name!r}, "
                'better="more", unit="", explanation="...", floor=None, ceiling=None, cost="images"),)'
            )


def check_scores(values: Iterable[object]) -> None:
    """Raise UserError for a score in ``values`` with a metric that is not described.

    Scores are classes; the metrics of their default values are checked. Other values are ignored.
    """
    for value in values:
        if isclass(value) and issubclass(value, Score | Comparison) and not isabstract(value):
            check_declared(value())


def check_measures() -> None:
    """Raise UserError where the metrics of protocols are not those of the kinds."""
    described: dict[str, tuple[str, ...]] = {}
    for kind in KINDS.values():
        if kind.measure:
            described[kind.measure] = (*described.get(kind.measure, ()), kind.name)
    for measure in {*MEASURES, *described}:
        names = MEASURES[measure].names if measure in MEASURES else ()
        if names != described.get(measure, ()):
            raise UserError(f"MEASURES[{measure!r}] measures {names}, but its kinds are {described.get(measure, ())}")
