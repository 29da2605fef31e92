"""Draw latent traversals: the effect of each entry of a code."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aesearch.use.action import Action, add_items

if TYPE_CHECKING:
    from aesearch.model import Model
    from aesearch.use.inputs import Source


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``traverse``."""
    add_items(parser)
    parser.add_argument("--item", type=int, default=0, metavar="N", help="the item whose code is varied (0)")


def run(model: "Model", source: "Source", out: Path, options: argparse.Namespace) -> list[str]:
    """Write ``traversals.png``: a row per entry of the code, varied over its range."""
    from aesearch.errors import UserError
    from aesearch.model import save_grid, traversals
    from aesearch.use.grids import check_pictures

    check_pictures(model)
    if model.config.code.spatial:
        raise UserError("a codebook has no numbers to vary; interpolate or sample instead")
    items = source.items()
    if not 0 <= options.item < len(items.images):
        raise UserError(f"there is no item {options.item}; give --item from 0 to {len(items.images) - 1}")
    path = out / "traversals.png"
    save_grid(path, traversals(model, items.images, source.given_labels(items), item=options.item))
    return [*items.remarks, f"the code of item {items.names[options.item]} varied: {path}"]


ACTION = Action(70, "vary one entry of a code at a time", add_options, run)
