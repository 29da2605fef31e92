"""Compare codes with PNG as compression."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aesearch.use.action import Action, add_items

if TYPE_CHECKING:
    from aesearch.model import Model
    from aesearch.use.inputs import Source


def run(model: "Model", source: "Source", out: Path, options: argparse.Namespace) -> list[str]:  # noqa: ARG001
    """Write ``compression.csv``: bits and error of each way to store the items."""
    from aesearch.use.compression import compress

    return compress(model, source, out)


ACTION = Action(80, "bits per dimension of the code, against PNG", add_items, run)
