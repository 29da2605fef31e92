"""Score items and detect anomalies."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aesearch.use.action import Action, add_items

if TYPE_CHECKING:
    from aesearch.model import Model
    from aesearch.use.inputs import Source


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``detect``."""
    add_items(parser)
    parser.add_argument(
        "--score", choices=["error", "elbo"], default="error", help="anomaly score: squared error or -ELBO (error)"
    )
    parser.add_argument(
        "--quantile", type=float, default=0.95, metavar="Q", help="threshold: this quantile of clean val scores (0.95)"
    )
    parser.add_argument(
        "--deviations", type=float, metavar="K", help="threshold instead: mean + K standard deviations of these scores"
    )
    parser.add_argument("--normal", metavar="CLASS", help="the class that is normal, where items have labels")


def run(model: "Model", source: "Source", out: Path, options: argparse.Namespace) -> list[str]:
    """Write ``scores.csv`` and ``detection.png``."""
    from aesearch.use.detection import detect

    return detect(model, source, out, options)


ACTION = Action(90, "score items and detect anomalies", add_options, run)
