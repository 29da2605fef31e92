"""Draw the codes of items as a map."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aesearch.use.action import Action, add_items

if TYPE_CHECKING:
    from aesearch.model import Model
    from aesearch.use.inputs import Source

MOST_MAPPED = 2000


def run(model: "Model", source: "Source", out: Path, options: argparse.Namespace) -> list[str]:  # noqa: ARG001
    """Write ``map.png`` and ``map.csv``: codes in two dimensions, by PCA and t-SNE.

    The points of the picture are coloured by label. At most 2,000 items are mapped.
    """
    import numpy as np
    import pandas as pd
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    from aesearch.errors import UserError
    from aesearch.escapes import write_csv
    from aesearch.use.drawing import scatter

    items = source.items()
    given = source.given_labels(items)
    limit = min(MOST_MAPPED, len(items.images))
    if limit < 5:
        raise UserError(f"a map needs at least 5 items, but got {limit}; give more with --input")
    codes = model.encode(items.images[:limit], None if given is None else given[:limit])
    flat = PCA(min(2, codes.shape[1])).fit_transform(codes)
    if flat.shape[1] == 1:
        flat = np.column_stack([flat[:, 0], np.zeros(len(flat))])
    near = TSNE(perplexity=min(30, (limit - 1) / 3), init="random", random_state=0).fit_transform(codes)
    named = source.class_names(items)
    labels = named and named[:limit]
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
    write_csv(table, out / "map.csv")
    scatter(out / "map.png", {"PCA of the codes": flat, "t-SNE of the codes": near}, labels)
    return [*items.remarks, f"{limit} codes in two dimensions: {out / 'map.png'}, {out / 'map.csv'}"]


ACTION = Action(20, "draw codes in two dimensions, by PCA and t-SNE", add_items, run)
