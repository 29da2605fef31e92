"""The options of ``use``. Nothing heavy is imported here, so that ``--help`` is instant."""

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

Add = Callable[[argparse.ArgumentParser], None]


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, but got {text!r}")
    return int(text)


def _items(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--input", type=Path, metavar="PATH", help="images, a folder, .npy, .npz, CSV or Parquet (its own test split)"
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="use the first N items")


def _encode(parser: argparse.ArgumentParser) -> None:
    _items(parser)


def _reconstruct(parser: argparse.ArgumentParser) -> None:
    _items(parser)


def _denoise(parser: argparse.ArgumentParser) -> None:
    _items(parser)
    parser.add_argument(
        "--noise", type=float, metavar="STD", help="add noise to clean items first, and say what is gained"
    )


def _sample(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=positive, default=64, metavar="N", help="(64)")
    parser.add_argument("--label", metavar="CLASS", help="the class to sample")
    parser.add_argument("--prior", choices=["model", "mixture"], default="model", help="(model)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(0)")


def _interpolate(parser: argparse.ArgumentParser) -> None:
    _items(parser)
    parser.add_argument("--pairs", type=positive, default=6, metavar="N", help="(6)")
    parser.add_argument("--steps", type=positive, default=9, metavar="N", help="(9)")
    parser.add_argument("--spherical", action="store_true", help="along a great circle")


def _traverse(parser: argparse.ArgumentParser) -> None:
    _items(parser)
    parser.add_argument("--item", type=int, default=0, metavar="N", help="the item whose code is varied (0)")


def _compress(parser: argparse.ArgumentParser) -> None:
    _items(parser)


def _detect(parser: argparse.ArgumentParser) -> None:
    _items(parser)
    parser.add_argument("--score", choices=["error", "elbo"], default="error", help="(error)")
    parser.add_argument("--quantile", type=float, default=0.95, metavar="Q", help="of clean val scores (0.95)")
    parser.add_argument("--deviations", type=float, metavar="K", help="mean + K std of clean val scores instead")
    parser.add_argument("--normal", metavar="CLASS", help="the class that is no anomaly, where items have labels")


def _map(parser: argparse.ArgumentParser) -> None:
    _items(parser)


def _export(parser: argparse.ArgumentParser) -> None:
    """It has no options of its own."""


# action: (its help, its module and function below aesearch.use, its options)
ACTIONS: dict[str, tuple[str, str, Add]] = {
    "encode": ("write the codes of items as Parquet", "encoding:encode", _encode),
    "map": ("draw codes in two dimensions, by PCA and t-SNE", "encoding:draw_map", _map),
    "reconstruct": ("write what the model makes of items", "pictures:reconstruct", _reconstruct),
    "denoise": ("clean noisy items", "pictures:denoise", _denoise),
    "sample": ("draw new items", "pictures:sample", _sample),
    "interpolate": ("go from item to item", "pictures:interpolate", _interpolate),
    "traverse": ("vary one entry of a code at a time", "pictures:traverse", _traverse),
    "compress": ("bits per dimension of the code, against PNG", "compress:compress", _compress),
    "detect": ("score items and tell anomalies", "detect:detect", _detect),
    "export": ("write weights, configuration, model card and a torch.export program", "export:export", _export),
}


def add_use(use: argparse.ArgumentParser, parser_class: type[argparse.ArgumentParser]) -> None:
    """The options of ``use`` and of its actions."""
    use.add_argument(
        "model", metavar="MODEL", help="a study (file or name), an MLflow run id, or a folder with a model in it"
    )
    actions = use.add_subparsers(dest="action", required=True, parser_class=parser_class, metavar="ACTION")
    for name, (text, place, add) in ACTIONS.items():
        action = actions.add_parser(name, help=text, allow_abbrev=False)
        action.add_argument("--best", metavar="METRIC", help="of a study the trial best in this (its knee)")
        action.add_argument("--replica", type=int, metavar="N", help="(that with the lowest val/loss)")
        action.add_argument("--out", type=Path, metavar="DIR", help="where to write (use/MODEL/ACTION)")
        action.add_argument("--data", type=Path, metavar="DIR", help="data sets, as for run")
        action.add_argument(
            "--tracking-uri", default="sqlite:///mlflow.db", metavar="URI", help="MLflow's store or server"
        )
        add(action)
        action.set_defaults(parser=action, place=place)


def resolve(place: str) -> Callable[..., list[str]]:
    """The function of an action: given (model, items, out, options) it writes files and returns lines to print."""
    module, name = place.split(":")
    function: Any = getattr(import_module(f"aesearch.use.{module}"), name)
    return function  # type: ignore[no-any-return]
