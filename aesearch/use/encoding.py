"""Codes of items: as a table, and as a map."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from aesearch.errors import UserError
from aesearch.model import Model
from aesearch.use.drawing import scatter
from aesearch.use.inputs import Source

MOST_MAPPED = 2000


def encode(model: Model, source: Source, out: Path, options: argparse.Namespace) -> list[str]:  # noqa: ARG001
    """``codes.parquet``: a row per item, its name, its label if any, and its code."""
    items = source.items()
    codes = model.encode(items.images, source.given_labels(items))
    width = len(str(codes.shape[1] - 1))
    table = pd.DataFrame({f"z{j:0{width}d}": codes[:, j] for j in range(codes.shape[1])})
    if items.labels is not None:
        table.insert(0, "label", [model.classes[label] for label in items.labels])
    table.insert(0, "name", items.names)
    path = out / "codes.parquet"
    table.to_parquet(path, index=False)
    return [*items.remarks, f"{len(table)} codes of {codes.shape[1]} numbers: {path}"]


def draw_map(model: Model, source: Source, out: Path, options: argparse.Namespace) -> list[str]:  # noqa: ARG001
    """``map.png`` and ``map.csv``: the codes in two dimensions, by PCA and by t-SNE, coloured by label."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    items = source.items()
    given = source.given_labels(items)
    limit = min(MOST_MAPPED, len(items.images))
    if limit < 5:
        raise UserError(f"a map needs at least 5 items, but got {limit}")
    codes = model.encode(items.images[:limit], None if given is None else given[:limit])
    flat = PCA(min(2, codes.shape[1])).fit_transform(codes)
    if flat.shape[1] == 1:
        flat = np.column_stack([flat[:, 0], np.zeros(len(flat))])
    near = TSNE(perplexity=min(30, (limit - 1) / 3), init="random", random_state=0).fit_transform(codes)
    labels = None if items.labels is None else [model.classes[label] for label in items.labels[:limit]]
    table = pd.DataFrame(
        {
            "name": items.names[:limit],
            "pca_1": flat[:, 0],
            "pca_2": flat[:, 1],
            "tsne_1": near[:, 0],
            "tsne_2": near[:, 1],
        }
    )
    if labels:
        table.insert(1, "label", labels)
    table.to_csv(out / "map.csv", index=False)
    scatter(out / "map.png", {"PCA of the codes": flat, "t-SNE of the codes": near}, labels)
    return [*items.remarks, f"{limit} codes in two dimensions: {out / 'map.png'}, {out / 'map.csv'}"]
