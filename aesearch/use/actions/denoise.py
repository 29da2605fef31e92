"""Denoise items."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aesearch.use.action import Action, add_items

if TYPE_CHECKING:
    from aesearch.model import Model
    from aesearch.use.inputs import Source


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``denoise``."""
    add_items(parser)
    parser.add_argument(
        "--noise", type=float, metavar="STD", help="add noise to clean items first, and print the PSNR gained"
    )


def run(model: "Model", source: "Source", out: Path, options: argparse.Namespace) -> list[str]:
    """Write ``denoised.npy`` and a picture.

    With ``--noise`` the picture also shows the clean items, and the gain of PSNR in dB is printed.
    """
    import torch

    from aesearch.corruptions import GaussianNoise
    from aesearch.datasets import is_picture
    from aesearch.errors import UserError
    from aesearch.metrics.quality import psnr
    from aesearch.use.grids import COLUMNS, as_floats, save_items, write_grid

    items = source.items()
    given = source.given_labels(items)
    clean = as_floats(items.images)
    if options.noise is None:
        rows, seen = [clean[:COLUMNS]], clean
    elif options.noise > 0:
        noise = GaussianNoise(options.noise)
        seen = noise.corrupt(torch.from_numpy(clean), torch.Generator().manual_seed(0)).numpy()
        rows = [clean[:COLUMNS], seen[:COLUMNS]]
    else:
        raise UserError(f"--noise {options.noise:g} is not above 0; give a standard deviation")
    cleaned = model.reconstruct(seen, given)
    files = [save_items(out, "denoised", cleaned), *write_grid(out, "denoised", [*rows, cleaned], model)]
    lines = [*items.remarks, f"{len(cleaned)} items denoised: {', '.join(files)}"]
    if options.noise is not None and is_picture(model.shape):
        before, after = psnr(seen.clip(0, 1), clean).mean(), psnr(cleaned.clip(0, 1), clean).mean()
        lines.append(f"PSNR {before:.2f} dB noisy, {after:.2f} dB denoised: {after - before:+.2f} dB")
    return lines


ACTION = Action(40, "remove noise from items", add_options, run)
