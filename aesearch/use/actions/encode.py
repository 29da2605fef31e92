"""Write the codes of items as a table."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aesearch.use.action import Action, add_items

if TYPE_CHECKING:
    from aesearch.model import Model
    from aesearch.use.inputs import Source


def run(model: "Model", source: "Source", out: Path, options: argparse.Namespace) -> list[str]:  # noqa: ARG001
    """Write ``codes.parquet``: a row per item with name, label, if any, and code."""
    import pandas as pd

    items = source.items()
    codes = model.encode(items.images, source.given_labels(items))
    width = len(str(codes.shape[1] - 1))
    table = pd.DataFrame({f"z{j:0{width}d}": codes[:, j] for j in range(codes.shape[1])})
    if labels := source.class_names(items):
        table.insert(0, "label", labels)
    table.insert(0, "name", items.names)
    path = out / "codes.parquet"
    table.to_parquet(path, index=False)
    return [*items.remarks, f"{len(table)} codes of {codes.shape[1]} numbers: {path}"]


ACTION = Action(10, "write the codes of items as Parquet", add_items, run)
