"""Type of an action of ``use``, and options that several actions share.

Nothing slow is imported here, so that ``--help`` is instant.
"""

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
    """An action of ``use``. Its name is that of its file.

    place: its place; actions are listed in the order of their places.
    help: its line of ``use --help``.
    add_options: a function that adds its own options to a parser.
    run: a function of the model, the source of items, the folder to write into and the parsed options. It returns lines
    to print. It imports slow modules, such as torch, when it is called.
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
    """Add the options that choose the items of an action."""
    parser.add_argument(
        "--input",
        type=Path,
        metavar="PATH",
        help="an image, a folder, a .npy, .npz, CSV or Parquet file (test split of the model's data)",
    )
    parser.add_argument(
        "--open-data", action="store_true", help="open the files that a model in a folder names as its data"
    )
    parser.add_argument(
        "--most-pixels", type=positive, default=2**26, metavar="N", help="skip images of more pixels (67,108,864)"
    )
    parser.add_argument(
        "--most-bytes",
        type=positive,
        default=2**31,
        metavar="N",
        help="refuse an array of an .npz, or a Parquet file, of more bytes in memory (2,147,483,648)",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="use the first N items")


def no_options(parser: argparse.ArgumentParser) -> None:
    """Add nothing, for an action without options of its own."""
