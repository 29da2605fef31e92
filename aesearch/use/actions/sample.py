"""Sample new items."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aesearch.use.action import Action, positive

if TYPE_CHECKING:
    from aesearch.model import Model
    from aesearch.use.inputs import Source


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``sample``."""
    parser.add_argument("--count", type=positive, default=64, metavar="N", help="number of new items (64)")
    parser.add_argument("--label", metavar="CLASS", help="class to sample (conditional model or --prior mixture)")
    parser.add_argument(
        "--prior", choices=["model", "mixture"], default="model", help="distribution that codes are drawn from (model)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the draws (0)")


def run(model: "Model", source: "Source", out: Path, options: argparse.Namespace) -> list[str]:  # noqa: ARG001
    """Write ``samples.npy`` and a picture of new items."""
    import numpy as np

    from aesearch.datasets import is_picture
    from aesearch.errors import UserError
    from aesearch.model import save_grid
    from aesearch.use.grids import save_items

    label = None
    if options.label is not None:
        if options.label not in model.classes:
            raise UserError(
                f"unknown class {options.label!r}: the model has {', '.join(model.classes) or 'no classes'}"
            )
        label = model.classes.index(options.label)
    drawn = model.sample(options.count, label, options.prior, options.seed)
    files = [save_items(out, "samples", drawn)]
    if is_picture(model.shape):
        columns = int(np.ceil(len(drawn) ** 0.5))
        whole = np.ones((-(-len(drawn) // columns) * columns, *model.shape), np.float32)
        whole[: len(drawn)] = drawn.clip(0, 1)
        save_grid(out / "samples.png", whole.reshape(-1, columns, *model.shape))
        files.append(str(out / "samples.png"))
    return [f"{len(drawn)} samples: {', '.join(files)}"]


ACTION = Action(50, "sample new items", add_options, run)
