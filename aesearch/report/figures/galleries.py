"""Figures made of the pictures that trials wrote."""

import sys
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from aesearch.escapes import say
from aesearch.report.analysis import Analysis
from aesearch.report.figures.style import report_figure

MOST_PIXELS = 2**26  # of a picture, 8,192 x 8,192


@report_figure(100, "Test images (above) and their reconstructions (below).")
def reconstructions(analysis: Analysis) -> Figure | None:
    """Show test images above their reconstructions, for each shown trial."""
    return _pictures(analysis, "reconstructions")


@report_figure(
    110,
    "Latent traversals of the first image. Each row moves one entry of its code from -2.5 to +2.5 standard deviations "
    "and keeps the others; the most used entry comes first.",
)
def traversals(analysis: Analysis) -> Figure | None:
    """Show latent traversals, for each shown trial."""
    return _pictures(analysis, "traversals")


def _pictures(analysis: Analysis, name: str) -> Figure | None:
    """Stack one picture of each shown trial; None where no trial has one."""
    found = {what: _read(analysis.results.pictures[key] / f"{name}.png") for what, key in analysis.shown.items()}
    pictures = {what: picture for what, picture in found.items() if picture is not None}
    if not pictures:
        return None
    width = max(picture.shape[1] for picture in pictures.values())
    heights = [picture.shape[0] for picture in pictures.values()]
    inches = 8.0
    scale = inches / width
    figure, axes = plt.subplots(
        len(pictures),
        1,
        figsize=(inches, scale * sum(heights) + 0.42 * len(pictures)),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    for axis, (what, picture) in zip(axes[:, 0], pictures.items(), strict=True):
        key = analysis.shown[what]
        axis.imshow(picture, cmap="gray", interpolation="nearest")
        axis.set_axis_off()
        axis.set_title(f"{what}: trial {key}, {_describe(analysis, key)}", fontsize=11, loc="left")
    return figure


def _read(path: Path) -> NDArray[np.generic] | None:
    """Read a picture; None where there is none.

    One that is too large, or damaged, is said: in MLflow others may have changed it.
    """
    if not path.exists():
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # of a larger limit
            with Image.open(path) as image:
                pixels = image.width * image.height
        if pixels <= MOST_PIXELS:
            return np.asarray(plt.imread(path))
        reason = f"it has {pixels:,} pixels, more than {MOST_PIXELS:,}"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = str(error)
    say(f"no picture {path.name}: {reason}", out=sys.stderr)
    return None


def _describe(analysis: Analysis, key: int) -> str:
    row = analysis.complete.loc[key]
    values = {name: row[f"param:{name}"] for name in analysis.listed_parameters if pd.notna(row[f"param:{name}"])}
    return ", ".join(f"{n} {v:.3g}" if isinstance(v, int | float) else f"{n} {v}" for n, v in values.items())
