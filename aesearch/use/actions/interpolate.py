"""Interpolate between items."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aesearch.use.action import Action, add_items, positive

if TYPE_CHECKING:
    from aesearch.model import Model
    from aesearch.use.inputs import Source


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``interpolate``."""
    add_items(parser)
    parser.add_argument("--pairs", type=positive, default=6, metavar="N", help="pairs of items (6)")
    parser.add_argument(
        "--steps", type=positive, default=9, metavar="N", help="pictures of a pair, both ends included (9)"
    )
    parser.add_argument("--spherical", action="store_true", help="interpolate codes along a great circle (linear)")


def run(model: "Model", source: "Source", out: Path, options: argparse.Namespace) -> list[str]:
    """Write ``interpolations.png``: a row per pair of items, from one to the other."""
    from aesearch.errors import UserError
    from aesearch.model import save_grid
    from aesearch.use.grids import check_pictures

    check_pictures(model)
    items = source.items()
    if source.given_labels(items) is not None:
        raise UserError(
            "a conditional model takes the class from a label, so it cannot interpolate; sample or traverse it"
        )
    if len(items.images) < 2:
        raise UserError(f"interpolation needs at least 2 items, but got {len(items.images)}; give more with --input")
    pairs = min(options.pairs, len(items.images) // 2)
    images = items.images[: 2 * pairs]
    grid = model.interpolate(images[0::2], images[1::2], options.steps, options.spherical)
    path = out / "interpolations.png"
    save_grid(path, grid.clip(0, 1))
    return [*items.remarks, f"{pairs} pairs in {options.steps} steps: {path}"]


ACTION = Action(60, "interpolate between items", add_options, run)
