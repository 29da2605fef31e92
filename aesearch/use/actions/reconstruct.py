"""Reconstruct items."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aesearch.use.action import Action, add_items

if TYPE_CHECKING:
    from aesearch.model import Model
    from aesearch.use.inputs import Source


def run(model: "Model", source: "Source", out: Path, options: argparse.Namespace) -> list[str]:  # noqa: ARG001
    """Write ``reconstructions.npy``, ``errors.csv`` and a picture.

    The picture shows the items above their reconstructions.
    """
    import numpy as np
    import pandas as pd

    from aesearch.datasets import is_picture
    from aesearch.escapes import write_csv
    from aesearch.use.grids import COLUMNS, as_floats, save_items, write_grid

    items = source.items()
    given = source.given_labels(items)
    rebuilt = model.reconstruct(items.images, given)
    scores = model.score(items.images, given)
    table = pd.DataFrame({"name": items.names, "mse": scores["error"]})
    if is_picture(model.shape):
        table["psnr_db"] = -10 * np.log10(scores["error"])
    write_csv(table, out / "errors.csv")
    files = [save_items(out, "reconstructions", rebuilt), str(out / "errors.csv")]
    files += write_grid(out, "reconstructions", [as_floats(items.images[:COLUMNS]), rebuilt], model)
    return [
        *items.remarks,
        f"mean squared error {scores['error'].mean():.5f} of {len(table)} items: {', '.join(files)}",
    ]


ACTION = Action(30, "write reconstructions of items and their errors", add_items, run)
