"""The value that an action of ``use`` is, and options that several share. Nothing heavy is imported here."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aesearch.model import Model
    from aesearch.use.inputs import Source


@dataclass(frozen=True)
class Action:
    """Something that can be done with a trained model; it is called like the file that it stands in.

    place: actions come in the order of their places. help: a line of ``use --help``. add_options: adds its own options.
    run: writes files into the folder ``out`` and returns lines to print; it imports what is heavy when it is called.
    """

    place: int
    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[["Model", "Source", Path, argparse.Namespace], list[str]]


def positive(text: str) -> int:
    """Read a whole number of at least 1, for argparse."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, but got {text!r}")
    return int(text)


def add_items(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which items an action is done to."""
    parser.add_argument(
        "--input", type=Path, metavar="PATH", help="images, a folder, .npy, .npz, CSV or Parquet (its own test split)"
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="use the first N items")


def no_options(parser: argparse.ArgumentParser) -> None:
    """Add nothing, for an action without options of its own."""
