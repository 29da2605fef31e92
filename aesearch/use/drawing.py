"""Figures of ``use`` that are more than a grid of items."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from aesearch.escapes import plain_labels

MOST_NAMED = 20


@plain_labels()
def scatter(path: Path, maps: Mapping[str, NDArray[np.floating]], labels: Sequence[str] | None) -> None:
    """Draw maps side by side, with points coloured by label.

    path: the PNG file to write.
    maps: points (N, 2) by title.
    labels: the class name of each of the N points, or None.
    """
    figure, axes = plt.subplots(1, len(maps), figsize=(5.4 * len(maps), 4.8), layout="constrained", squeeze=False)
    names = sorted(set(labels)) if labels else []
    colours = plt.get_cmap("tab20" if len(names) > 10 else "tab10")
    for axis, (title, points) in zip(axes[0], maps.items(), strict=True):
        for place, name in enumerate(names[:MOST_NAMED] or [""]):
            chosen = np.array([label == name for label in labels]) if labels else np.ones(len(points), bool)
            axis.scatter(*points[chosen].T, s=7, color=colours(place), label=name, alpha=0.7, linewidths=0)
        axis.set(title=title, xticks=[], yticks=[])
    if names:
        axes[0, -1].legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2.5, frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def histogram_and_roc(
    path: Path, scores: NDArray[np.floating], anomalous: NDArray[np.bool_] | None, limit: float, name: str
) -> None:
    """Draw a histogram of scores with the threshold, and the ROC curve.

    path: the PNG file to write.
    scores: anomaly score of each item, (N,).
    anomalous: true for the anomalies, (N,); None where they are unknown, and then without ROC curve.
    limit: the threshold, in the unit of the scores.
    name: the name of the score.
    """
    figure, axes = plt.subplots(
        1,
        1 if anomalous is None else 2,
        figsize=(5.6 if anomalous is None else 10, 4.2),
        layout="constrained",
        squeeze=False,
    )
    kinds = {"all items": np.ones(len(scores), bool)}
    if anomalous is not None:
        kinds = {"normal": ~anomalous, "anomalous": anomalous}
    bins = np.linspace(scores.min(), max(float(np.quantile(scores, 0.995)), limit * 1.05), 60)
    for colour, (label, chosen) in zip(("tab:blue", "tab:orange"), kinds.items(), strict=False):
        axes[0, 0].hist(scores[chosen], bins, density=True, alpha=0.6, label=label, color=colour)
    axes[0, 0].axvline(limit, color="black", linestyle="--", label=f"threshold {limit:.4g}")
    axes[0, 0].set(xlabel=f"anomaly score ({name})", ylabel="density")
    axes[0, 0].legend(frameon=False)
    if anomalous is not None:
        order = np.argsort(-scores, kind="stable")
        true = np.concatenate([[0], anomalous[order].cumsum() / anomalous.sum()])
        false = np.concatenate([[0], (~anomalous[order]).cumsum() / (~anomalous).sum()])
        axes[0, 1].plot(false, true)
        axes[0, 1].plot([0, 1], [0, 1], color="grey", linestyle=":")
        axes[0, 1].set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
        axes[0, 1].scatter(
            (scores[~anomalous] > limit).mean(),
            (scores[anomalous] > limit).mean(),
            color="black",
            zorder=3,
            label="threshold",
        )
        axes[0, 1].legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=130)
    plt.close(figure)
