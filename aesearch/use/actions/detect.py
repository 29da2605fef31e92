"""Score items and tell anomalies."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aesearch.use.action import Action, add_items

if TYPE_CHECKING:
    from aesearch.model import Model
    from aesearch.use.inputs import Source


def add_options(parser: argparse.ArgumentParser) -> None:
    add_items(parser)
    parser.add_argument("--score", choices=["error", "elbo"], default="error", help="(error)")
    parser.add_argument("--quantile", type=float, default=0.95, metavar="Q", help="of clean val scores (0.95)")
    parser.add_argument("--deviations", type=float, metavar="K", help="mean + K std of clean val scores instead")
    parser.add_argument("--normal", metavar="CLASS", help="the class that is no anomaly, where items have labels")


def run(model: "Model", source: "Source", out: Path, options: argparse.Namespace) -> list[str]:
    """Write ``scores.csv`` and ``detection.png``."""
    from aesearch.use.detection import detect

    return detect(model, source, out, options)


ACTION = Action(90, "score items and tell anomalies", add_options, run)
