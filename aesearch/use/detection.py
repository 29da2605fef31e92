"""Detection of anomalies: scores, a threshold from clean val data, and quality."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aesearch.datasets import Items, OneClass
from aesearch.errors import UserError, nearest
from aesearch.escapes import write_csv
from aesearch.metrics.roc import auroc, average_precision, fpr_at_tpr, threshold
from aesearch.model import Model
from aesearch.use.drawing import histogram_and_roc
from aesearch.use.inputs import Source


def detect(model: Model, source: Source, out: Path, options: argparse.Namespace) -> list[str]:
    """Score items, compare the scores with a threshold, and write both down.

    ``scores.csv`` has a row per item, the highest score first; ``detection.png`` has the histogram and the ROC curve.

    Returns lines to print: the threshold, the items above it and, where it is known which items are anomalies, AUROC,
    average precision and the false positive rate at 95 % true positives.

    Raises UserError for options that the model cannot follow.
    """
    clean = model.clean_scores()
    if options.score not in clean:
        raise UserError(f"the model has no score {options.score}; write --score error")
    if not 0 < options.quantile < 1:
        raise UserError(f"--quantile {options.quantile} is out of range; give a number above 0 and below 1")
    rule, at = ("quantile", options.quantile) if options.deviations is None else ("deviation", options.deviations)
    limit = threshold(clean[options.score], "quantile" if rule == "quantile" else "deviation", at)
    items = source.items()
    scores = model.score(items.images, source.given_labels(items))
    chosen = scores[options.score]
    table = pd.DataFrame({"name": items.names} | scores | {"anomaly": chosen > limit})
    if labels := source.class_names(items):
        table.insert(1, "label", labels)
    write_csv(table.sort_values(options.score, ascending=False, kind="stable"), out / "scores.csv")
    known = _known(model, items, options.normal)
    lines = [
        *items.remarks,
        f"threshold {limit:.5g} ({_rule(rule, at)} of {len(clean[options.score])} clean items of val)",
        f"{int((chosen > limit).sum())} of {len(chosen)} items are above it",
    ]
    if known is not None:
        lines.append(
            f"AUROC {auroc(chosen, known):.4f}, average precision {average_precision(chosen, known):.4f}, "
            f"false positives at 95 % true positives {fpr_at_tpr(chosen, known):.4f}"
        )
    histogram_and_roc(out / "detection.png", chosen, known, limit, options.score)
    return [*lines, f"{out / 'scores.csv'}, {out / 'detection.png'}"]


def _rule(rule: str, at: float) -> str:
    return f"the {at:g} quantile" if rule == "quantile" else f"mean + {at:g} standard deviations"


def _known(model: Model, items: Items, normal: str | None) -> NDArray[np.bool_] | None:
    """Mark the items that are anomalies, (N,).

    Returns None where labels or the normal class are unknown, or where all items are of one kind.
    """
    data = model.config.data
    if normal is None and isinstance(data, OneClass):
        kept = data.normal_places
    elif normal is not None:
        if normal not in model.classes:
            raise UserError(f"unknown class {normal!r}: {nearest(normal, model.classes)}")
        kept = [model.classes.index(normal)]
    else:
        return None
    if items.labels is None:
        return None
    anomalous: NDArray[np.bool_] = ~np.isin(items.labels, kept)
    return anomalous if anomalous.any() and not anomalous.all() else None
