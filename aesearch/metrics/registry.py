"""Registry of metrics: the kinds of all files of this folder, found by full name."""

import re
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from aesearch.metrics.kinds import MetricKind


def _gathered() -> dict[str, MetricKind]:
    """Read the kinds of all files of this folder, in the order of files and lines."""
    found: dict[str, MetricKind] = {}
    for module in iter_modules([str(Path(__file__).parent)]):
        for value in vars(import_module(f"aesearch.metrics.{module.name}")).values():
            if isinstance(value, MetricKind) and found.setdefault(value.name, value) != value:
                raise ValueError(f"two metrics are named {value.name!r}; rename that of {module.name}.py")
    return found


KINDS = _gathered()


def find_metric(name: str, own: Iterable[MetricKind] = ()) -> MetricKind | None:
    """Find the kind of a metric by its full name; None for an unknown one.

    name: such as ``test/fast.mig`` or ``val/probe_100``.
    own: the kinds of scores outside of aesearch.
    """
    known = {kind.name: kind for kind in own} | KINDS
    bare = name.rpartition("/")[2]
    # A point may belong to a number (psnr_gain_0.1), so the whole name comes before the part after its point.
    for text in (bare, bare.partition(".")[2], bare.rpartition(".")[2]):
        stem = re.sub(r"_(?:\d+(?:\.\d+)?|all)$", "", text)
        if text in known:
            return known[text]
        if stem in known and known[stem].number:
            return known[stem]
        for kind in known.values():
            if kind.factor and stem.endswith(f"_{kind.name}"):
                return kind
    return None


def metric_of(name: str, own: Iterable[MetricKind] = ()) -> MetricKind:
    """Find the kind of a metric by its full name.

    name: such as ``test/fast.mig`` or ``val/study.udr_lasso``.
    own: the kinds of scores outside of aesearch.

    Raises ValueError for a name that no kind has.
    """
    kind = find_metric(name, own)
    if kind is None:
        raise ValueError(f"no MetricKind describes the metric {name!r}")
    return kind
